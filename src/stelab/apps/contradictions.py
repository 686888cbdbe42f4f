"""What is wrong between the keys of a configuration, each of which may be right alone."""

from collections.abc import Iterator
from typing import Any

from stelab.engine.config.validate import suggestion
from stelab.engine.project import Mistake
from stelab.engine.terminal import shortened

_LOWER_IS_BETTER = ("train/loss", "train/mse", "val/loss", "val/mse")

# Arguments of Lightning's trainer that other keys decide.
_SET_ELSEWHERE = {
    "callbacks": "the group callbacks has them",
    "logger": "the group logger has them",
    "plugins": "trainer.precision and trainer.strategy choose them",
    "enable_checkpointing": "checkpoint.* says what is saved",
    "default_root_dir": "paths.outputs and study say where a run lies",
    "enable_model_summary": "a callback, such as RichModelSummary, shows one",
    "num_sanity_val_steps": "all jobs are checked before the first one starts",
    "use_distributed_sampler": "batches are shared out among processes by data",
    "barebones": "a run is logged and saved",
}


def contradictions(tree: dict[str, Any]) -> Iterator[Mistake]:
    """Yield the mistakes of a resolved configuration, of any command."""
    if "monitor" in tree:
        yield from _of_monitor(tree)
    if isinstance(tree.get("trainer"), dict):
        yield from _of_trainer(tree)


def _of_monitor(tree: dict[str, Any]) -> Iterator[Mistake]:
    monitor = str(tree["monitor"])
    if monitor not in _LOWER_IS_BETTER and tree.get("better") is None:
        hint = suggestion(monitor, _LOWER_IS_BETTER)
        yield ("monitor",), f"is {monitor}, so better must be set, to lower or higher{hint}"
    trainer = _node(tree, "trainer")
    is_one_epoch = trainer.get("max_epochs") == 1 or trainer.get("fast_dev_run")
    if monitor == "code/flip_ratio" and is_one_epoch:
        reason = "which has no value before the second epoch; set trainer.max_epochs above 1"
        yield ("monitor",), f"is {monitor}, {reason}"
    if not monitor.startswith("val/"):
        return
    for group, name, lost in (
        ("data", "val_size", "validation images"),
        ("trainer", "limit_val_batches", "validation"),
    ):
        if _node(tree, group).get(name) == 0:
            key = f"{group}.{name}"
            fix = f"set monitor=train/loss, or {key} above 0"
            yield ("monitor",), f"is {monitor}, but {key}=0 leaves no {lost}; {fix}"


def _of_trainer(tree: dict[str, Any]) -> Iterator[Mistake]:
    trainer, scheduler = _node(tree, "trainer"), _node(tree, "scheduler")
    for key, place in _SET_ELSEWHERE.items():
        if key in trainer:
            got = shortened(repr(trainer[key]))
            yield ("trainer", key), f"is not a key here: {place}, got {got}"
    epochs = trainer.get("max_epochs")
    if epochs not in (None, -1):
        return
    written = "null" if epochs is None else str(epochs)
    if trainer.get("max_steps", -1) == -1:
        fix = "set one of them, because schedules end with training"
        yield ("trainer", "max_epochs"), f"is {written}, and there is no trainer.max_steps: {fix}"
    if scheduler.get("T_max", 1) in (None, -1) and scheduler.get("interval") != "step":
        fix = "set it, or a schedule by steps, such as scheduler=warmup"
        yield ("trainer", "max_epochs"), f"is {written}, so scheduler.T_max is unknown: {fix}"


def _node(tree: dict[str, Any], key: str) -> dict[str, Any]:
    return node if isinstance(node := tree.get(key), dict) else {}
