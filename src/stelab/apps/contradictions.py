"""What is wrong between the keys of a configuration, each of which may be right alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stelab.apps.schema import LOWER_IS_BETTER
from stelab.engine.config.validate import suggestion
from stelab.engine.project import Mistake


def contradictions(tree: dict[str, Any]) -> Iterator[Mistake]:
    """Yield the mistakes of a resolved configuration, of any command."""
    if "monitor" in tree:
        yield from _of_monitor(tree)
    if isinstance(tree.get("trainer"), dict):
        yield from _of_endless_training(tree)


def _of_monitor(tree: dict[str, Any]) -> Iterator[Mistake]:
    data, monitor = tree.get("data"), str(tree["monitor"])
    if monitor not in LOWER_IS_BETTER and tree.get("better") is None:
        hint = suggestion(monitor, LOWER_IS_BETTER)
        yield ("monitor",), f"is {monitor}, so better must be set, to lower or higher{hint}"
    if not monitor.startswith("val/"):
        return
    if isinstance(data, dict) and data.get("val_size") == 0:
        yield (
            ("monitor",),
            f"is {monitor}, but data.val_size=0 leaves no validation images; "
            "set monitor=train/loss, or data.val_size above 0",
        )
    trainer = tree.get("trainer")
    if isinstance(trainer, dict) and trainer.get("limit_val_batches") == 0:
        yield (
            ("monitor",),
            f"is {monitor}, but trainer.limit_val_batches=0 leaves no validation; "
            "set monitor=train/loss, or trainer.limit_val_batches above 0",
        )


def _of_endless_training(tree: dict[str, Any]) -> Iterator[Mistake]:
    trainer, scheduler = tree["trainer"], tree.get("scheduler")
    epochs = trainer.get("max_epochs")
    if epochs not in (None, -1):
        return
    written = "null" if epochs is None else str(epochs)
    if trainer.get("max_steps", -1) == -1:
        yield (
            ("trainer", "max_epochs"),
            f"is {written}, and there is no trainer.max_steps: set one of them, because "
            "schedules end with training",
        )
    if isinstance(scheduler, dict) and scheduler.get("T_max", 1) in (None, -1):
        yield (
            ("scheduler", "T_max"),
            f"is {written}, so scheduler.T_max is unknown: set it, or a schedule by "
            "steps, such as scheduler=warmup",
        )
