"""The Lightning module: encoder, binary layer and what is behind it, trained for a task."""

import math
import warnings
from functools import partial
from typing import Any, ClassVar, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from stelab.annealing import Scheduled, advance
from stelab.engine.config import build
from stelab.estimators import MultiEvaluation
from stelab.lab.data.datamodule import SPLITS, Batch, Batches
from stelab.lab.models import Network
from stelab.lab.tasks import Task
from stelab.lab.tasks.base import Split, binary_layers
from stelab.lab.training.captured import CapturedStep, capture_update
from stelab.lab.training.finite import FiniteCheck, NonFiniteError
from stelab.lab.training.processes import EpochMeans, step_together
from stelab.lab.training.schedules import build_schedule
from stelab.lab.training.static_step import CompiledStep, Kind, StaticStep, Taken
from stelab.lab.training.steps import LOSS
from stelab.philox import Philox

STREAMS = ("training", *SPLITS)
"""Of random numbers: what a split's evaluation draws is not what training drew."""
_STREAMS_OF_PART = 2**16  # more than all processes have together


class TaskModule(pl.LightningModule):
    """Trains a network for a task, through the estimator of its binary layer.

    Logged every epoch for each split: ``loss`` (the task's, with what it adds) and the task's own
    metrics. Training averages over the epoch, so over changing weights and in training mode;
    validation and test are in eval mode.

    Random bits depend on the seed, the step and the process only, and, where gradients of several
    batches are accumulated, on which of them it is. Parameters that only lower an estimator's
    variance have its own optimizer; a checkpoint holds them under ``"variance"``.

    Optimizer and schedule are plain configurations (see `build_schedule`). `step` says how a step
    is computed, see `StaticStep`.
    """

    # What `on_load_checkpoint` and `load_state_dict` read of a checkpoint.
    WEIGHTS: ClassVar[tuple[str, ...]] = ("state_dict", "means", "variance")

    def __init__(
        self,
        *,
        model: Network,
        task: Task,
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        seed: int,
        step: Kind = "eager",
    ):
        super().__init__()
        self.model = model
        self.task = task
        self.optimizer_config = optimizer
        self.scheduler_config = scheduler
        self.seed = seed
        self.kind = step
        self.static: StaticStep | None = None  # while it trains
        self.variance_optimizers = [
            only_variance
            for layer in binary_layers(model)
            if (only_variance := layer.estimator.variance_optimizer()) is not None
        ]
        self.means = {split: EpochMeans() for split in ("train", "val", "test")}
        self.seat: Any = None  # in a stack of runs, where it is trained in one, see `Seat`

    def on_train_start(self) -> None:
        """Warn where a network breaks what its estimator assumes."""
        self.steps = self.trainer.estimated_stepping_batches  # which is slow to ask for
        self.scheduled = any(isinstance(part, Scheduled) for part in self.modules())
        optimizers = [*self.trainer.optimizers, *self.variance_optimizers]
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        self.finite = FiniteCheck(self.model, optimizers, scaled=scaled)
        self.static = self._static_step()
        for layer in binary_layers(self.model):
            name = type(layer.estimator).__name__
            if isinstance(layer.estimator, MultiEvaluation) and _norms_batches_behind(self.model):
                warnings.warn(
                    f"{name} assumes that an example's loss depends on its own bits only, but "
                    "there is batch norm behind them, which biases its gradient: set "
                    "model.norm=group (or none) where the model has that key",
                    stacklevel=2,
                )
                break

    def _static_step(self) -> StaticStep | None:
        """Return what takes steps of whole batches; None where steps are eager, or a stack's."""
        if self.seat is not None:
            return None
        batches = cast(Batches, self.trainer.train_dataloader)
        size = min(batches.batch_size, batches.count)
        if self.kind == "compiled":
            return CompiledStep(self, size=size)
        if self.kind == "graph":
            for optimizer in self.trainer.optimizers:
                capture_update(optimizer)
            return CapturedStep(self, size=size)
        return None

    def optimizer_step(self, epoch: int, index: int, optimizer: Any, closure: Any = None) -> None:
        """Take it, and move every schedule to where training stands: at 1 after the last step."""
        if self.seat is None:
            super().optimizer_step(epoch, index, optimizer, closure)
        else:
            closure()
            if self.seat.has_stepped:
                return
            optimizer.step()
        if self.scheduled:
            advance(self, (self.global_step + 1) / self.steps)

    def on_after_backward(self) -> None:
        """Log the loss of a step that is watched."""
        self.log(LOSS, self.step_loss)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look whether all was finite since the last step that was watched, see `EpochLoop`."""
        self.finite.look()
        if self.global_step == self.trainer.max_steps:
            self.trainer.should_stop = True  # so that it is validated, in the middle of an epoch

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the scalar whose gradient the estimator estimates."""
        if self.seat is not None:
            loop = self.trainer.fit_loop.epoch_loop
            if (taken := self.seat.step(loop, batch)) is not None:
                self.step_loss = taken
                return self.step_loss
        images, step = batch["images"], self.global_step
        if self.static is not None and len(images) == self.static.size:
            loss, x, values = self.static(batch, step)
        else:
            # Without a trainer, as in a loop of one's own, a step has one batch.
            part = batch_index % self.trainer.accumulate_grad_batches if self._trainer else 0
            loss, x, values = self.take(batch, self.random_numbers("training", step, part=part))
        self.step_loss = loss.detach()
        self.finite.add(loss, x, step=step, batch=batch)
        for optimizer in self.variance_optimizers:
            step_together(optimizer, self.trainer.strategy)
        self.means["train"].add(len(images), **values)
        return loss

    def backward(self, loss: Tensor, *arguments: Any, **named: Any) -> None:
        """Go backward, unless the step has done so, perhaps in a stack of runs."""
        if self.seat is not None and self.seat.has_stepped:
            return
        if loss.requires_grad or self.static is None:
            loss.backward(*arguments, **named)
        else:
            self.static.backward()

    def take(self, batch: Batch, generator: Philox) -> Taken:
        """Pass a training batch; return the loss with its history, and what is recorded of it."""
        model, task = self.model, self.task
        first: list[Any] = []  # an enumerating estimator evaluates the loss a thousand times

        def outcome(output: Any) -> Tensor:
            losses = task.losses(output, batch)
            if not first:
                first.extend((output, losses.detach()))
            return losses

        x = model.encoder(batch["images"])
        f = partial(model.losses, outcome=outcome, generator=generator)
        loss = model.binarizer.loss(x, f, generator=generator)
        penalty = task.penalty(model, x)
        loss = loss if penalty is None else loss + penalty.mean()
        output, losses = first
        with torch.no_grad():
            metrics = task.metrics(output, batch, losses)
            values = {name: value.detach().mean() for name, value in metrics.items()}
        return loss, x, {"loss": loss.detach(), **values}

    def look(self, batch: Batch) -> None:
        """Pass a training batch for the hooks that are there; leave no trace.

        A static step runs no hooks. It goes backward as far as to the pre-activations.
        """
        before = [(buffer, buffer.clone()) for buffer in self.buffers()]
        with self.trainer.precision_plugin.train_step_context():
            loss, x, _ = self.take(batch, self.random_numbers("training", self.global_step))
        if x.requires_grad:
            torch.autograd.grad(loss, x)
        for buffer, value in before:
            buffer.copy_(value)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Record what the task measures."""
        self._evaluate("val", batch, batch_index)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """Record what the task measures."""
        self._evaluate("test", batch, batch_index)

    def evaluate(self, split: Split, batch: Batch, batch_index: int) -> dict[str, Tensor]:
        """Return what the task measures of every example; its draws are those of this batch."""
        generator = self.random_numbers(split, batch_index)
        return self.task.evaluate(self.model, batch, split, generator=generator)

    def random_numbers(self, stream: str, step: int, *, part: int = 0) -> Philox:
        """Return what a batch draws: of an evaluation, or the `part`-th of a step of training."""
        own = self.global_rank * len(STREAMS) + STREAMS.index(stream)
        return Philox(self.seed, step, part * _STREAMS_OF_PART + own)

    def _evaluate(self, split: Split, batch: Batch, batch_index: int) -> None:
        self._record(split, self.evaluate(split, batch, batch_index), len(batch["images"]))

    def _record(self, split: str, values: dict[str, Tensor], examples: int) -> None:
        means = {name: value.mean() if value.dim() else value for name, value in values.items()}
        self.means[split].add(examples, **means)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means."""
        self._log_means("train")

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's means."""
        self._log_means("val")

    def on_test_epoch_end(self) -> None:
        """Log the means."""
        self._log_means("test")

    def _log_means(self, split: str) -> None:
        for name, value in self.means[split].reset(self.trainer.strategy).items():
            if not value.isfinite():
                raise NonFiniteError(f"step {self.global_step}: {split}/{name} is {value.item()}")
            # The processes' means are equal already; it saves a warning.
            self.log(f"{split}/{name}", value, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Build the optimizer and the schedule from their plain configurations."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer = build(self.optimizer_config, params=parameters)
        schedule = build_schedule(self.scheduler_config, optimizer=optimizer, count=self._count)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _count(self, interval: str) -> int:
        """Return the run's steps, or its epochs."""
        trainer, data = self.trainer, self.trainer.datamodule  # type: ignore[attr-defined]
        # Lightning's own count would set up the data before it knows where to continue in it.
        batches = data.batches_per_epoch(trainer.limit_train_batches)
        an_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
        epochs, steps = trainer.max_epochs or -1, trainer.max_steps
        total = min(end for end in (epochs * an_epoch, steps) if end > 0)
        return total if interval == "step" else math.ceil(total / an_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the epoch's means; store what only lowers the variance apart from the network."""
        checkpoint["means"] = self.means["train"].state_dict()
        if self.variance_optimizers:
            state = checkpoint["state_dict"]
            checkpoint["variance"] = {
                "parameters": {key: state.pop(key) for key in self._variance_keys()},
                "optimizers": [optimizer.state_dict() for optimizer in self.variance_optimizers],
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put both back."""
        self.means["train"].load_state_dict(checkpoint["means"])
        checkpoint["state_dict"] = with_present_keys(checkpoint["state_dict"])
        if self.variance_optimizers:
            variance = checkpoint["variance"]
            checkpoint["state_dict"].update(variance["parameters"])
            # Where there could be one binary layer only, it was not in a list.
            states = variance["optimizers"] if "optimizers" in variance else [variance["optimizer"]]
            for optimizer, state in zip(self.variance_optimizers, states, strict=True):
                optimizer.load_state_dict(state)

    def _variance_keys(self) -> list[str]:
        """Name the parameters that only lower the variance."""
        groups = [group for o in self.variance_optimizers for group in o.param_groups]
        only = {id(parameter) for group in groups for parameter in group["params"]}
        return sorted(name for name, p in self.named_parameters() if id(p) in only)


def with_present_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of this or an older version under the names of today."""
    old, new = "reconstruction_loss.", "task.loss."
    return {
        new + key.removeprefix(old) if key.startswith(old) else key: value
        for key, value in state.items()
    }


def _norms_batches_behind(model: Network) -> bool:
    """Whether there is batch norm behind the binary layer."""
    before = {id(part) for part in model.encoder.modules()}
    return any(isinstance(p, _BatchNorm) and id(p) not in before for p in model.modules())
