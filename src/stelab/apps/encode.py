"""``stelab encode``: images to packed bits."""

from omegaconf import DictConfig

from stelab.engine.config.writable import require_file
from stelab.engine.studies import read_finished
from stelab.engine.trust import packages, require_trusted

TEXTS = ("trust",)


def start(cfg: DictConfig) -> None:
    """Encode a dataset's split, or a folder of images."""
    run, trust = read_finished(cfg.run), packages(cfg.trust)  # before torch is imported
    own_data = cfg.images is None and cfg.get("data") is None
    require_trusted(run, ["model", *(["data"] if own_data else [])], trust)
    require_file(cfg.output)
    from stelab.lab.training.codes import encode

    codes = encode(
        run,
        checkpoint=cfg.checkpoint,
        split=cfg.split,
        images=cfg.images,
        data=cfg.get("data"),
        output=cfg.output,
        overwrite=cfg.overwrite,
        trust=trust,
    )
    images, size = codes.shape
    print(f"{cfg.output}: {images} images, {size} bytes each")
