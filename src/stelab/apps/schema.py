"""Schemas of the commands: every key, its type and its range.

Nodes with a `_target_` (estimator, threshold, model, ...) are open families: their schema is the
signature of what they name, see `stelab.engine.config.signature`.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag
from pydantic.dataclasses import dataclass

from stelab.arguments import (
    Count,
    FewBits,
    Flag,
    NonNegative,
    Only,
    Positive,
    Seed,
    Size,
    Text,
)
from stelab.engine.path_names import MOST, is_path_name

closed = ConfigDict(extra="forbid")


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
Threads = Annotated[int, Only(int, least=1, most=1024)]
Unit = Annotated[float, Field(strict=True, ge=0, lt=1)]
Batches = Annotated[int | float, Field(ge=0)] | None


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


@dataclass(config=ConfigDict(extra="allow"))
class TorchOptimizer:
    """A torch.optim class and its hyperparameters; further ones are checked by its signature."""

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


@dataclass(config=closed)
class Trainer:
    """Arguments of `pytorch_lightning.Trainer`, under its names."""

    accelerator: Text
    devices: Count | Text | list[Size]
    strategy: Text
    precision: Literal["32-true", "64-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"]
    max_epochs: Count
    gradient_clip_val: Positive | None
    accumulate_grad_batches: Count
    log_every_n_steps: Count
    deterministic: Flag | Literal["warn"]
    detect_anomaly: Flag
    enable_progress_bar: Flag
    profiler: Target | None


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
    monitor: Literal["train/loss", "train/mse", "val/loss", "val/mse"]
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
    scheduler: Target
    trainer: Trainer
    logger: dict[str, Target]
    callbacks: dict[str, Target]
    paths: Paths


@dataclass(config=closed)
class Status:
    """`stelab status`."""

    study: Name
    watch: Flag
    paths: Paths


@dataclass(config=closed)
class Compare:
    """`stelab compare`."""

    study: Text
    against: Text | None
    metric: Text
    better: Text
    by: Text | None
    where: Text | None
    baseline: Text | None
    replicates: Text
    confidence: Annotated[float, Field(strict=True, gt=0, lt=1)]
    interval: Literal["t", "bootstrap"]
    log_scale: Flag
    report: Flag
    output: Text | None
    trust: Text | None
    paths: Paths
    data: Target | None = None


@dataclass(config=closed)
class Tensorboard:
    """`stelab tensorboard`."""

    study: Text
    by: Text | None
    where: Text | None
    replicates: Text
    embeddings: Flag
    host: Text
    port: Annotated[int, Field(strict=True, ge=0, lt=2**16)]
    serve: Flag
    trust: Text | None
    paths: Paths


@dataclass(config=closed)
class Evaluate:
    """`stelab evaluate`."""

    run: Text
    checkpoint: Literal["last", "best"]
    split: Literal["train", "val", "test"]
    trust: Text | None
    paths: Paths
    data: Target | None = None


@dataclass(config=closed)
class Encode:
    """`stelab encode`."""

    run: Text
    checkpoint: Literal["last", "best"]
    split: Literal["train", "val", "test"]
    images: Text | None
    output: Text
    overwrite: Flag
    trust: Text | None
    paths: Paths
    data: Target | None = None


@dataclass(config=closed)
class Decode:
    """`stelab decode`."""

    run: Text
    checkpoint: Literal["last", "best"]
    codes: Text
    output: Text
    overwrite: Flag
    trust: Text | None


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
    "train": Train,
    "status": Status,
    "compare": Compare,
    "tensorboard": Tensorboard,
    "evaluate": Evaluate,
    "encode": Encode,
    "decode": Decode,
    "gradients": Gradients,
}
