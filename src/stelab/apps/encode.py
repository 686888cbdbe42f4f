"""``stelab encode``: images to packed bits."""

from omegaconf import DictConfig

from stelab.config.places import require_file
from stelab.studies import read_finished


def start(cfg: DictConfig) -> None:
    """Encode a dataset's split, or a folder of images."""
    run = read_finished(cfg.run)  # before torch is imported
    require_file(cfg.output)
    from stelab.training.codes import encode

    codes = encode(
        run,
        checkpoint=cfg.checkpoint,
        split=cfg.split,
        images=cfg.images,
        data=cfg.get("data"),
        output=cfg.output,
        overwrite=cfg.overwrite,
    )
    images, size = codes.shape
    print(f"{cfg.output}: {images} images, {size} bytes each")
