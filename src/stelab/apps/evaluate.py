"""``stelab evaluate``: metrics and figures of a finished run's checkpoint."""

from __future__ import annotations

from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    """Evaluate and print the metrics."""
    from stelab.training.evaluate import evaluate

    metrics = evaluate(cfg.run, checkpoint=cfg.checkpoint, split=cfg.split, data=cfg.get("data"))
    for name, value in metrics.items():
        print(f"{name} {value:.6f}")
