"""``stelab decode``: packed bits to PNG images."""

from omegaconf import DictConfig

from stelab.engine.config.writable import require_folder
from stelab.engine.studies import read_finished
from stelab.engine.trust import packages, require_trusted

TEXTS = ("trust",)


def start(cfg: DictConfig) -> None:
    """Decode a file of codes into a folder of images."""
    run, trust = read_finished(cfg.run), packages(cfg.trust)  # before torch is imported
    require_trusted(run, ["model"], trust)
    require_folder(cfg.output)
    from stelab.lab.training.codes import decode

    count = decode(
        run,
        checkpoint=cfg.checkpoint,
        codes=cfg.codes,
        output=cfg.output,
        overwrite=cfg.overwrite,
        trust=trust,
    )
    print(f"{cfg.output}: {count} images")
