"""Schemas of the commands: every key, its type and its range; and contradictions between them.

Nodes with a `_target_` (estimator, threshold, model, ...) are open families: their schema is the
signature of what they name, see `stelab.engine.config.signature`.
"""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag
from typing_extensions import NotRequired

from stelab.arguments import Count, FewBits, Flag, NonNegative, Only, Positive, Seed, Size, Text
from stelab.engine.config.validate import suggestion, table
from stelab.engine.path_names import MOST, is_path_name
from stelab.engine.project import Mistake
from stelab.engine.terminal import shortened

_closed = partial(table, "forbid")
_open = partial(table, "allow")  # what else it has is checked by the target's signature


def _has_target(node: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(node.get("_target_"), str):
        raise ValueError("must have a _target_, the class that it describes")
    return node


Target = Annotated[dict[str, Any], AfterValidator(_has_target)]


def _short_enough(name: str) -> str:
    if not is_path_name(name, most=MOST):
        raise ValueError(f"must have at most {MOST} bytes, because folders are called so")
    return name


Name = Annotated[
    str, Field(strict=True, pattern=r"^[A-Za-z0-9][\w.+-]*$"), AfterValidator(_short_enough)
]
RunTag = Annotated[str, Field(strict=True, pattern=r"^[\w][\w .:/+-]{0,63}$")]


def _threads(value: Any) -> Any:
    if value != "auto" and not (type(value) is int and 1 <= value <= 1024):
        raise ValueError("must be auto, or a number of threads from 1 to 1024")
    return value


Threads = Annotated[Any, AfterValidator(_threads)]
Unit = Annotated[float, Field(strict=True, ge=0, lt=1)]


def _some_batches(value: Any) -> Any:
    is_count = type(value) is int and value >= 1
    if not is_count and not (type(value) is float and 0 < value <= 1):
        raise ValueError("must be a number of batches, or a share of them above 0.0, at most 1.0")
    return value


SomeBatches = Annotated[Any, AfterValidator(_some_batches)]


def _different(values: list[Any]) -> list[Any]:
    if not values or len({*values}) < len(values):
        raise ValueError("must be one or several, all different")
    return values


_Different = AfterValidator(_different)


def _of_every_epoch(name: str) -> str:
    if name.startswith("test/") or name.endswith("_step"):
        raise ValueError("must be a metric that every epoch of training logs, such as val/mse")
    return name


Monitor = Annotated[str, Only(str), AfterValidator(_of_every_epoch)]
Limit = Count | Literal[-1]  # -1: none

# What the groups were set to; they name runs and table rows.
Names = _closed(
    estimator=Name,
    threshold=Name,
    model=Text,
    data=Text,
    categorical=NotRequired[Name | None],
    quantizer=NotRequired[Name | None],
)
# Where things are written; none of it changes a result.
Paths = _closed(outputs=Text, datasets=Text, run=NotRequired[Text | None])
# The trial of an Optuna study that a run belongs to.
Trial = _closed(storage=Text, study=Text, number=Size)
# When a run's state is saved within an epoch (after every epoch it always is), and what stays.
Checkpoint = _closed(
    every_n_steps=Count | None,
    every_n_minutes=Positive | None,
    keep=Literal["all", "weights", "none"],
)
# A torch.optim class and its hyperparameters.
TorchOptimizer = _open(
    _target_=Text,
    lr=NotRequired[Positive | None],
    betas=NotRequired[tuple[Unit, Unit] | None],
    momentum=NotRequired[NonNegative | None],
    eps=NotRequired[Positive | list[Any] | None],
    weight_decay=NotRequired[NonNegative | None],
)


def _is_of_torch(node: Any) -> str:
    target = node.get("_target_") if isinstance(node, dict) else None
    return "torch.optim" if str(target).startswith("torch.optim.") else "other"


Optimizer = Annotated[
    Annotated[TorchOptimizer, Tag("torch.optim")]  # type: ignore[valid-type]
    | Annotated[Target, Tag("other")],
    Discriminator(_is_of_torch),
]
# A torch.optim.lr_scheduler class, and when it steps.
Scheduler = _open(
    _target_=Text,
    interval=NotRequired[Literal["epoch", "step"]],
    frequency=NotRequired[Count],
    monitor=NotRequired[Text | None],
)
# Arguments of `pytorch_lightning.Trainer`, under its names, and how a step is computed.
Trainer = _open(
    accelerator=Text,
    devices=Count | Text | list[Size],
    strategy=Text,
    precision=Literal["32-true", "64-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"],
    max_epochs=Limit | None,
    gradient_clip_val=Positive | None,
    accumulate_grad_batches=Count,
    log_every_n_steps=Count,
    deterministic=Flag | Literal["warn"],
    detect_anomaly=Flag,
    enable_progress_bar=Flag,
    profiler=Target | None,
    step=NotRequired[Literal["eager", "compiled", "graph"]],
    tf32=NotRequired[Flag],
    channels_last=NotRequired[Flag],
    # What is not there is left to Lightning.
    max_steps=NotRequired[Limit],
    min_epochs=NotRequired[Size | None],
    min_steps=NotRequired[Size | None],
    limit_train_batches=NotRequired[SomeBatches | None],
    limit_val_batches=NotRequired[Literal[0] | SomeBatches | None],
    limit_test_batches=NotRequired[SomeBatches | None],
    overfit_batches=NotRequired[Literal[0] | SomeBatches],
    check_val_every_n_epoch=NotRequired[Count | None],
    fast_dev_run=NotRequired[Flag | Count],
    num_nodes=NotRequired[Count],
)

_OF_STUDIES: dict[str, Any] = {
    "study": Text,
    "by": Text | None,
    "where": Text | None,
    "replicates": Text,
    "trust": Text | None,
    "paths": Paths,
}
_OF_RUN: dict[str, Any] = {"run": Text, "checkpoint": Literal["last", "best"], "trust": Text | None}
_OF_DATA: dict[str, Any] = {
    "split": Literal["train", "val", "test"],
    "paths": Paths,
    "data": NotRequired[Target | None],
}

SCHEMAS: dict[str, Any] = {
    "train": _closed(
        study=Name,
        seed=Seed,
        threads=Threads,
        rerun=Flag,
        dry_run=Flag,
        monitor=Monitor,
        retries=Size,
        on_failure=Literal["continue", "stop"],
        only=Literal["failed"] | None,
        checkpoint=Checkpoint,
        trial=Trial | None,
        names=Names,
        estimator=Target,
        threshold=Target,
        model=Target,
        loss=Target,
        task=NotRequired[Target],
        categorical=NotRequired[Target | None],
        quantizer=NotRequired[Target | None],
        data=Target,
        optimizer=Optimizer,
        scheduler=Scheduler,
        trainer=Trainer,
        logger=dict[str, Target],
        callbacks=dict[str, Target],
        paths=Paths,
        better=NotRequired[Literal["lower", "higher"] | None],
        tags=NotRequired[list[RunTag] | None],
        from_checkpoint=NotRequired[Text | None],
    ),
    "status": _closed(study=Text, watch=Flag, paths=Paths),
    "export": _closed(study=Text, output=Text | None, overwrite=Flag, paths=Paths),
    "unpack": _closed(archive=Text, paths=Paths),
    "compare": _closed(
        **_OF_STUDIES,
        against=Text | None,
        metric=Text | None,
        columns=Text | None,
        better=Text | None,
        baseline=Text | None,
        confidence=Annotated[float, Field(strict=True, gt=0, lt=1)],
        interval=Literal["t", "bootstrap"],
        log_scale=Flag,
        report=Flag,
        output=Text | None,
        data=NotRequired[Target | None],
    ),
    "tensorboard": _closed(
        **_OF_STUDIES,
        embeddings=Flag,
        host=Text,
        port=Annotated[int, Field(strict=True, ge=0, lt=2**16)],
        serve=Flag,
    ),
    "evaluate": _closed(**_OF_RUN, **_OF_DATA),
    "encode": _closed(**_OF_RUN, **_OF_DATA, images=Text | None, output=Text, overwrite=Flag),
    "decode": _closed(**_OF_RUN, codes=Text, output=Text, overwrite=Flag),
    "gradients": _closed(
        study=Name,
        bits=FewBits,
        seed=Seed,
        samples=Annotated[int, Field(strict=True, ge=2, le=10**8)],
        adapt=Annotated[int, Field(strict=True, ge=0, le=10**6)],
        progress=Annotated[float, Field(strict=True, ge=0, le=1)],
        run=Text | None,
        trust=Text | None,
        names=_closed(estimator=Name, problem=Name),
        problem=Target,
        estimator=Target,
        paths=Paths,
    ),
    "bench": _closed(
        parts=Annotated[
            list[Literal["steps", "profile", "start", "launchers", "studies"]], _Different
        ],
        repetitions=Count,
        seconds=Positive,
        settings=Annotated[list[Text], _Different],
        fast=Text,
        threads=Annotated[list[Threads], _Different] | None,
        jobs=Count,
        launchers=Annotated[list[Literal["alone", "serial", "joblib", "stacked"]], _Different],
        planned=Count,
        runs=Annotated[list[Count], _Different],
        output=Text | None,
        overwrite=Flag,
        paths=Paths,
    ),
}

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
