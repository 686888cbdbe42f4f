"""Training steps without ceremony, where nobody watches."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.optim import Optimizer

SECONDS = 0.25  # between two steps that everybody sees, at most
LOSS = "train/loss_step"
_AROUND_A_STEP = (
    *("on_train_batch_start", "on_train_batch_end", "on_before_backward", "on_after_backward"),
    *("on_before_zero_grad", "on_before_optimizer_step"),
)


Watcher = Callable[[Trainer, int], bool]
"""Says whether a step of a trainer, of so many in its epoch, must be seen."""


class EpochLoop(_TrainingEpochLoop):
    """Lightning's loop over the batches of an epoch, that leaves out hooks which nobody needs.

    Around a step Lightning calls some twenty hooks of every callback, and collects what they log:
    that takes as long as a step of a small network. Here, steps go on without them until

    - a callback watches the coming one, the epoch's batch `index`: its method
      ``watches(trainer, index)`` says so; without that, one that has a hook around steps watches
      all of them. Where its attribute ``plain`` is true, ``on_train_batch_start`` and
      ``on_train_batch_end`` are all that it needs of the steps that it watches, and neither logs
      nor asks how far training is: the steps are taken here, with these two hooks;
    - it is the last of the epoch or of training, the trainer validates after it, or logs more of it
      than its loss, which is noted, and written with what is logged next;
    - a quarter of a second has passed: signals, progress and logs wait no longer.

    What a step computes is the same in either case: how many are watched changes no number. Runs of
    several processes, or with accumulated gradients, scaled losses or a profiler take Lightning's
    way alone.
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.noted: list[tuple[int, Tensor]] = []  # steps, and their losses, to be logged

    def on_run_start(self, data_fetcher: Any) -> None:
        """Find out what stays as it is for an epoch."""
        super().on_run_start(data_fetcher)
        trainer = self.trainer
        self.has_plain_steps = _has_plain_steps(trainer)
        # Who looks into steps, and needs no more of Lightning's.
        self.plain = [c for c in trainer.callbacks if getattr(c, "plain", False)]
        others = [c for c in trainer.callbacks if c not in self.plain]
        self.watchers = [w for c in others if (w := _watcher(c))]
        self.moves_batches = moves_batches(trainer.lightning_module, trainer.datamodule)
        schedules = trainer.lr_scheduler_configs
        self.schedules_steps = any(schedule.interval == "step" for schedule in schedules)

    def advance(self, data_fetcher: Any) -> None:
        """Take steps up to the next that is watched, and that one."""
        if self.has_plain_steps and not self.restarting:
            end = time.monotonic() + SECONDS
            seat = self.trainer.lightning_module.seat
            self.seen_from = self._seen_from()
            try:
                if seat is None or not seat.take(self, data_fetcher):
                    while not self.is_watched() and time.monotonic() < end:
                        self.step(data_fetcher)
            finally:
                self._write_losses()
        super().advance(data_fetcher)

    def is_watched(self) -> bool:
        """Whether anybody must see the coming step, beside those whom `step` shows it."""
        trainer, index = self.trainer, self.batch_progress.current.ready
        return (
            index >= self.seen_from
            or trainer.should_stop
            or (self._is_logged() and self._logs_more())
            or any(watches(trainer, index) for watches in self.watchers)
        )

    def _seen_from(self) -> float:
        """Return the batch that is the last, or validated after: whatever callbacks watch."""
        trainer, index = self.trainer, self.batch_progress.current.ready
        last = trainer.num_training_batches - 1
        if self.max_steps > 0:
            last = min(last, index + self.max_steps - 1 - self.global_step)
        if not trainer.enable_validation:
            return last
        if trainer._val_check_time_interval is not None:
            return index
        every = trainer.val_check_batch or math.inf
        past = index if trainer.check_val_every_n_epoch else self.batch_progress.total.ready
        return min(last, index + (-past - 1) % every)

    def _is_logged(self) -> bool:
        """Whether the trainer logs the coming step."""
        every = self.trainer.log_every_n_steps
        return every > 0 and (self._batches_that_stepped + 1) % every == 0

    def _logs_more(self) -> bool:
        """Whether a step had more to log, in this epoch, than its loss."""
        logged = [result.meta for result in self._results.values()]
        return any(meta.on_step and meta.name != LOSS for meta in logged)

    def _write_losses(self) -> None:
        """Log the losses that were noted; no checkpoint is of a step whose loss is not written."""
        noted, self.noted = self.noted, []
        if not noted:
            return
        epoch, losses = self.trainer.current_epoch, torch.stack([loss for _, loss in noted])
        for (step, _), loss in zip(noted, losses.tolist(), strict=True):
            for logger in self.trainer.loggers:
                logger.log_metrics({LOSS: loss, "epoch": epoch}, step=step)
        for logger in self.trainer.loggers:
            logger.save()

    def watching(self, index: int) -> list[Any]:
        """Return who looks into the step of the epoch's batch `index`, where it is computed."""
        return [callback for callback in self.plain if callback.watches(self.trainer, index)]

    def step(self, data_fetcher: Any) -> None:
        """Do what `advance` does of Lightning's loop, without logging and all hooks but `plain`."""
        trainer, module = self.trainer, self.trainer.lightning_module
        plugin, (optimizer,) = trainer.precision_plugin, trainer.optimizers
        index = self.batch_progress.current.ready
        watching = self.watching(index)
        batch = self.fetch(data_fetcher)
        for callback in watching:
            callback.on_train_batch_start(trainer, module, batch, index)

        def closure() -> Tensor:
            with plugin.train_step_context():
                loss: Tensor = module.training_step(batch, index)
            _drop_gradients(optimizer)
            module.backward(loss)
            if clip := trainer.gradient_clip_val:
                module.configure_gradient_clipping(optimizer, clip, trainer.gradient_clip_algorithm)
            return loss

        module.optimizer_step(trainer.current_epoch, index, optimizer, closure)
        self.count(module.step_loss)
        for callback in watching:
            callback.on_train_batch_end(trainer, module, None, batch, index)

    def fetch(self, data_fetcher: Any) -> Any:
        """Return the next batch, whose step begins."""
        trainer, progress = self.trainer, self.batch_progress
        batch, _, _ = next(data_fetcher)
        batch = trainer.precision_plugin.convert_input(batch)
        if self.moves_batches:
            batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        progress.is_last_batch = data_fetcher.done
        progress.increment_ready()
        progress.increment_started()
        return batch

    def count(self, loss: Tensor) -> None:
        """Count the step under way, which was taken, and move what follows the steps."""
        if self._is_logged() and self.trainer.loggers:
            self.noted.append((self._batches_that_stepped, loss.clone()))
        progress, steps = self.batch_progress, self.automatic_optimization.optim_progress.optimizer
        for part in (steps.zero_grad, steps.step):
            part.increment_ready()
        steps.zero_grad.increment_started()
        steps.zero_grad.increment_completed()
        steps.step.increment_completed()
        progress.increment_processed()
        if self.schedules_steps:
            self.update_lr_schedulers("step", update_plateau_schedulers=False)
        progress.increment_completed()
        if self.schedules_steps:
            self.update_lr_schedulers("step", update_plateau_schedulers=True)
        self._batches_that_stepped += 1


def _drop_gradients(optimizer: Optimizer) -> None:
    """Do what `zero_grad` does, without its way around torch.compile and past profilers."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def _has_plain_steps(trainer: Trainer) -> bool:
    """Whether `EpochLoop` knows how to take a step of this trainer's."""
    return (
        isinstance(trainer.strategy, SingleDeviceStrategy)
        and trainer.accumulate_grad_batches == 1
        and getattr(trainer.precision_plugin, "scaler", None) is None
        and isinstance(trainer.profiler, PassThroughProfiler)  # type: ignore[attr-defined]
    )


def moves_batches(module: LightningModule, data: LightningDataModule) -> bool:
    """Whether anything changes batches on their way; by themselves they are on the device."""
    return any(
        is_overridden(f"{hook}_batch_transfer", part)
        for hook in ("on_before", "on_after")
        for part in (module, data)
    ) or any(is_overridden("transfer_batch_to_device", part) for part in (module, data))


def _watcher(callback: Callback) -> Watcher | None:
    """Return what says which steps a callback must see; None where it sees none."""
    if watches := getattr(callback, "watches", None):
        return watches
    return (lambda trainer, index: True) if sees_all_steps(type(callback)) else None


def sees_all_steps(kind: type[Callback]) -> bool:
    """Whether callbacks of a class have hooks around steps, and do not say which they watch."""
    hooks = any(getattr(kind, hook) is not getattr(Callback, hook) for hook in _AROUND_A_STEP)
    return hooks and not hasattr(kind, "watches")
