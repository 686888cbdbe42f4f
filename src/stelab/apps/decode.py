"""``stelab decode``: codes to PNG images."""

from omegaconf import DictConfig

from stelab.engine.files import require_folder
from stelab.engine.importing import importing
from stelab.engine.studies import read_finished
from stelab.engine.trust import packages, require_trusted

TEXTS = ("trust",)


def start(cfg: DictConfig) -> None:
    """Decode a file of codes into a folder of images."""
    run, trust = read_finished(cfg.run), packages(cfg.trust)  # before torch is imported
    require_trusted(run, ["model"], trust)
    require_folder(cfg.output)
    with importing():
        from stelab.lab.training.codes import decode

    keys = ("checkpoint", "codes", "output", "overwrite")
    count = decode(run, **{key: cfg[key] for key in keys}, trust=trust)
    print(f"{cfg.output}: {count} images")
