"""``stelab decode``: packed bits to PNG images."""

from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    """Decode a file of codes into a folder of images."""
    from stelab.training.codes import decode

    count = decode(
        cfg.run,
        checkpoint=cfg.checkpoint,
        codes=cfg.codes,
        output=cfg.output,
        overwrite=cfg.overwrite,
    )
    print(f"{cfg.output}: {count} images")
