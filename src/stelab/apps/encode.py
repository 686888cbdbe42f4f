"""``stelab encode``: images to codes."""

from omegaconf import DictConfig

from stelab.engine.files import require_file
from stelab.engine.importing import importing
from stelab.engine.studies import read_finished
from stelab.engine.trust import packages, require_trusted

TEXTS = ("trust",)


def start(cfg: DictConfig) -> None:
    """Encode a dataset's split, or a folder of images."""
    run, trust = read_finished(cfg.run), packages(cfg.trust)  # before torch is imported
    own_data = cfg.images is None and cfg.get("data") is None
    require_trusted(run, ["model", *(["data"] if own_data else [])], trust)
    require_file(cfg.output)
    with importing():
        from stelab.lab.training.codes import encode

    keys = ("checkpoint", "split", "images", "data", "output", "overwrite")
    codes, stored = encode(run, **{key: cfg.get(key) for key in keys}, trust=trust)
    print(f"{cfg.output}: {len(codes)} images, {stored}")
