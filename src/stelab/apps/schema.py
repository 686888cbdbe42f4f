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
RunTag = Annotated[str, Field(strict=True, pattern=r"^[\w][\w .:/+-]{0,63}$")]
Threads = Annotated[int, Only(int, least=1, most=1024)]
Unit = Annotated[float, Field(strict=True, ge=0, lt=1)]


def _some_batches(value: Any) -> Any:
    is_count = type(value) is int and value >= 1
    if not is_count and not (type(value) is float and 0 < value <= 1):
        raise ValueError("must be a number of batches, or a share of them above 0.0, at most 1.0")
    return value


def _elsewhere(what: str) -> AfterValidator:
    """Refuse an argument that is not set here; `what` says where it is."""

    def refuse(value: Any) -> Any:
        raise ValueError(f"is not a key here: {what}")

    return AfterValidator(refuse)


SomeBatches = Annotated[Any, AfterValidator(_some_batches)]


def _of_every_epoch(name: str) -> str:
    if name.startswith("test/") or name.endswith("_step"):
        raise ValueError("must be a metric that every epoch of training logs, such as val/mse")
    return name


LOWER_IS_BETTER = ("train/loss", "train/mse", "val/loss", "val/mse")
"""What may be monitored without saying which direction is better."""

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


@dataclass(config=ConfigDict(extra="allow"))
class Scheduler:
    """A torch.optim.lr_scheduler class, when it steps, and what its signature takes."""

    _target_: Text
    interval: Literal["epoch", "step"] = "epoch"
    frequency: Count = 1
    monitor: Text | None = None


@dataclass(config=ConfigDict(extra="allow"))
class Trainer:
    """Arguments of `pytorch_lightning.Trainer`, under its names; all others by its signature."""

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
    # What stelab sees to.
    callbacks: Annotated[Any, _elsewhere("the group callbacks has them")] = None
    logger: Annotated[Any, _elsewhere("the group logger has them")] = None
    plugins: Annotated[Any, _elsewhere("trainer.precision and trainer.strategy choose them")] = None
    enable_checkpointing: Annotated[Any, _elsewhere("checkpoint.* says what is saved")] = None
    default_root_dir: Annotated[Any, _elsewhere("paths.outputs and study say where a run lies")] = (
        None
    )
    enable_model_summary: Annotated[
        Any, _elsewhere("a callback, such as RichModelSummary, shows one")
    ] = None
    num_sanity_val_steps: Annotated[
        Any, _elsewhere("all jobs are checked before the first one starts")
    ] = None
    use_distributed_sampler: Annotated[
        Any, _elsewhere("batches are shared out among processes by data")
    ] = None
    barebones: Annotated[Any, _elsewhere("a run is logged and saved")] = None


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


CLASSES = {"trainer": "pytorch_lightning.Trainer"}
"""Nodes without a `_target_`: the arguments of one class."""

APART = {"scheduler": ("interval", "frequency", "monitor")}
"""Keys of nodes that are not for their `_target_`."""

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
