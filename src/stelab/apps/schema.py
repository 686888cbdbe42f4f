"""Schemas of the commands: every key, its type and its range.

Nodes with a `_target_` (estimator, threshold, model, ...) are open families: their schema is the
signature of what they name, see `stelab.engine.config.signature`.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag
from pydantic.dataclasses import dataclass

from stelab.arguments import Count, FewBits, Flag, NonNegative, Only, Positive, Seed, Size, Text
from stelab.engine.path_names import MOST, is_path_name

closed = ConfigDict(extra="forbid")
by_signature = ConfigDict(extra="allow")  # what is not here is checked by the target's signature


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
Threads = Annotated[int, Only(int, least=1, most=1024)]
Unit = Annotated[float, Field(strict=True, ge=0, lt=1)]


def _some_batches(value: Any) -> Any:
    is_count = type(value) is int and value >= 1
    if not is_count and not (type(value) is float and 0 < value <= 1):
        raise ValueError("must be a number of batches, or a share of them above 0.0, at most 1.0")
    return value


SomeBatches = Annotated[Any, AfterValidator(_some_batches)]


def _of_every_epoch(name: str) -> str:
    if name.startswith("test/") or name.endswith("_step"):
        raise ValueError("must be a metric that every epoch of training logs, such as val/mse")
    return name


Monitor = Annotated[str, Only(str), AfterValidator(_of_every_epoch)]
Limit = Count | Literal[-1]  # -1: none


@dataclass(config=closed)
class Names:
    """What the groups were set to; they name runs and table rows."""

    estimator: Name
    threshold: Name
    model: Text
    data: Text


@dataclass(config=closed)
class Paths:
    """Where things are written; none of it changes a result."""

    outputs: Text
    datasets: Text
    run: Text | None = None


@dataclass(config=by_signature)
class TorchOptimizer:
    """A torch.optim class and its hyperparameters."""

    _target_: Text
    lr: Positive | None = None
    betas: tuple[Unit, Unit] | None = None
    momentum: NonNegative | None = None
    eps: Positive | list[Any] | None = None
    weight_decay: NonNegative | None = None


def _is_of_torch(node: Any) -> str:
    target = node.get("_target_") if isinstance(node, dict) else None
    return "torch.optim" if str(target).startswith("torch.optim.") else "other"


Optimizer = Annotated[
    Annotated[TorchOptimizer, Tag("torch.optim")] | Annotated[Target, Tag("other")],
    Discriminator(_is_of_torch),
]


@dataclass(config=by_signature)
class Scheduler:
    """A torch.optim.lr_scheduler class, and when it steps."""

    _target_: Text
    interval: Literal["epoch", "step"] = "epoch"
    frequency: Count = 1
    monitor: Text | None = None


@dataclass(config=by_signature)
class Trainer:
    """Arguments of `pytorch_lightning.Trainer`, under its names."""

    accelerator: Text
    devices: Count | Text | list[Size]
    strategy: Text
    precision: Literal["32-true", "64-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"]
    max_epochs: Limit | None
    gradient_clip_val: Positive | None
    accumulate_grad_batches: Count
    log_every_n_steps: Count
    deterministic: Flag | Literal["warn"]
    detect_anomaly: Flag
    enable_progress_bar: Flag
    profiler: Target | None
    # What is not there is left to Lightning.
    max_steps: Limit = -1
    min_epochs: Size | None = None
    min_steps: Size | None = None
    limit_train_batches: SomeBatches | None = None
    limit_val_batches: Literal[0] | SomeBatches | None = None
    limit_test_batches: SomeBatches | None = None
    overfit_batches: Literal[0] | SomeBatches = 0
    check_val_every_n_epoch: Count | None = 1
    fast_dev_run: Flag | Count = False
    num_nodes: Count = 1


@dataclass(config=closed)
class Checkpoint:
    """When a run's state is saved within an epoch (after every epoch it always is), what stays."""

    every_n_steps: Count | None
    every_n_minutes: Positive | None
    keep: Literal["all", "weights", "none"]


@dataclass(config=closed)
class Trial:
    """The trial of an Optuna study that a run belongs to."""

    storage: Text
    study: Text
    number: Size


@dataclass(config=closed)
class Train:
    """`stelab train`."""

    study: Name
    seed: Seed
    threads: Threads
    rerun: Flag
    dry_run: Flag
    monitor: Monitor
    retries: Size
    on_failure: Literal["continue", "stop"]
    only: Literal["failed"] | None
    checkpoint: Checkpoint
    trial: Trial | None
    names: Names
    estimator: Target
    threshold: Target
    model: Target
    loss: Target
    data: Target
    optimizer: Optimizer
    scheduler: Scheduler
    trainer: Trainer
    logger: dict[str, Target]
    callbacks: dict[str, Target]
    paths: Paths
    better: Literal["lower", "higher"] | None = None
    tags: list[RunTag] | None = None
    from_checkpoint: Text | None = None


@dataclass(config=closed)
class Status:
    """`stelab status`."""

    study: Name
    watch: Flag
    paths: Paths


@dataclass(config=closed)
class _OfStudies:
    """A command on the runs of studies."""

    study: Text
    by: Text | None
    where: Text | None
    replicates: Text
    trust: Text | None
    paths: Paths


@dataclass(config=closed, kw_only=True)
class Compare(_OfStudies):
    """`stelab compare`."""

    against: Text | None
    metric: Text
    better: Text
    baseline: Text | None
    confidence: Annotated[float, Field(strict=True, gt=0, lt=1)]
    interval: Literal["t", "bootstrap"]
    log_scale: Flag
    report: Flag
    output: Text | None
    data: Target | None = None


@dataclass(config=closed)
class Tensorboard(_OfStudies):
    """`stelab tensorboard`."""

    embeddings: Flag
    host: Text
    port: Annotated[int, Field(strict=True, ge=0, lt=2**16)]
    serve: Flag


@dataclass(config=closed)
class _OfRun:
    """A command on a finished run."""

    run: Text
    checkpoint: Literal["last", "best"]
    trust: Text | None


@dataclass(config=closed)
class Evaluate(_OfRun):
    """`stelab evaluate`."""

    split: Literal["train", "val", "test"]
    paths: Paths
    data: Target | None = None


@dataclass(config=closed, kw_only=True)
class Encode(Evaluate):
    """`stelab encode`."""

    images: Text | None
    output: Text
    overwrite: Flag


@dataclass(config=closed)
class Decode(_OfRun):
    """`stelab decode`."""

    codes: Text
    output: Text
    overwrite: Flag


@dataclass(config=closed)
class MeasuredNames:
    """What the groups were set to; they name rows of the table."""

    estimator: Name
    problem: Name


@dataclass(config=closed)
class Gradients:
    """`stelab gradients`."""

    study: Name
    bits: FewBits
    seed: Seed
    samples: Annotated[int, Field(strict=True, ge=2, le=10**8)]
    adapt: Annotated[int, Field(strict=True, ge=0, le=10**6)]
    progress: Annotated[float, Field(strict=True, ge=0, le=1)]
    run: Text | None
    trust: Text | None
    names: MeasuredNames
    problem: Target
    estimator: Target
    paths: Paths


SCHEMAS: dict[str, type[Any]] = {
    schema.__name__.lower(): schema
    for schema in (Train, Status, Compare, Tensorboard, Evaluate, Encode, Decode, Gradients)
}
