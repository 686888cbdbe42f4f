"""``stelab evaluate``: metrics and figures of a finished run's checkpoint."""

from omegaconf import DictConfig

from stelab.engine.importing import importing
from stelab.engine.studies import read_finished
from stelab.engine.trust import packages, require_trusted

TEXTS = ("trust",)


def start(cfg: DictConfig) -> None:
    """Evaluate and print the metrics."""
    run, trust = read_finished(cfg.run), packages(cfg.trust)  # before torch is imported
    require_trusted(run, ["model", "loss", *(["data"] if cfg.get("data") is None else [])], trust)
    with importing():
        from stelab.lab.training.restore import evaluate

    metrics = evaluate(
        run, checkpoint=cfg.checkpoint, split=cfg.split, data=cfg.get("data"), trust=trust
    )
    for name, value in metrics.items():
        print(f"{name} {value:.6f}")
