"""``stelab evaluate``: metrics and figures of a finished run's checkpoint."""

from __future__ import annotations

from omegaconf import DictConfig

from stelab.studies import read_finished


def start(cfg: DictConfig) -> None:
    """Evaluate and print the metrics."""
    run = read_finished(cfg.run)  # before torch is imported
    from stelab.training.evaluate import evaluate

    metrics = evaluate(run, checkpoint=cfg.checkpoint, split=cfg.split, data=cfg.get("data"))
    for name, value in metrics.items():
        print(f"{name} {value:.6f}")
