"""When a run's state is saved, and what belongs to it beside what Lightning saves.

A run that was stopped has to end bit for bit as if it had not been. Lightning's `ModelCheckpoint`
does not do that: it saves in the hooks at the end of a batch or an epoch, when other callbacks have
not seen that batch yet and the epoch's means are not logged; and neither random generators nor
what was logged so far are in its checkpoints. So `Checkpoints` saves at the one moment when nothing
is under way, before a batch begins, and adds what is missing. At that moment the loops of Lightning
have counted the coming batch as fetched already, which would be skipped when they continue: these
counters are set back in the checkpoint. It is written to the disk beside the training that goes on.
"""

import io
import math
import random
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer
from torch import distributed

from stelab.engine.config.validate import suggestion
from stelab.engine.errors import RunError
from stelab.engine.files import link_atomically
from stelab.engine.studies.record import RunFolder
from stelab.lab.data.datamodule import Batches
from stelab.lab.training.checkpoint_file import (
    BEST,
    LAST,
    PREVIOUS,
    serialize,
    write_serialized,
)
from stelab.lab.training.interrupts import Interrupted, Interrupts
from stelab.lab.training.monitors import FLIP_RATIO
from stelab.lab.training.processes import gather, own_share
from stelab.lab.training.resume import logged

_TOGETHER = 16  # steps from one agreement of several processes to the next


class Checkpoints(Callback):
    """Save a run's state at the start of a batch, or at the end of training; see the module."""

    def __init__(self, cfg: DictConfig, interrupts: Interrupts):
        self.folder = RunFolder.of(cfg)
        self.monitor: str = cfg.monitor  # the metric that chooses best.ckpt
        self.sign = -1.0 if cfg.get("better") == "higher" else 1.0
        # Between two checkpoints within an epoch.
        self.steps = cfg.checkpoint.every_n_steps or math.inf
        self.seconds = 60 * (cfg.checkpoint.every_n_minutes or math.inf)
        self.interrupts = interrupts
        self.metrics: dict[str, float] = {}  # their last values
        self.best = math.inf  # of the value times its sign
        self.saved_step = self.validated_step = 0
        self.saved_at = time.monotonic()
        self.random: list[dict[str, Any]] = []
        self.writing: Future[None] | None = None
        self.begun = False  # once all state of the checkpoint continued from is restored

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Take over the signals, and let random generators continue."""
        self.interrupts.install()
        self._restore_random(trainer.strategy.root_device)

    def on_fit_end(self, trainer: Trainer, module: Any) -> None:
        """Let them continue where training was finished already and only the test is missing."""
        self._restore_random(trainer.strategy.root_device)

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        """Save where it is time to; stop where a signal asks for it."""
        if self.interrupts.lock_lost:
            self.interrupts.check()
        if index % trainer.accumulate_grad_batches:
            return  # accumulated gradients are not saved
        planned, reason = self._is_planned(trainer, index), self._reason
        if trainer.world_size > 1:  # which ask each other now and then, as that takes a while
            if not planned and trainer.global_step % _TOGETHER:
                return
            own = torch.tensor(reason, device=trainer.strategy.root_device)
            reason = int(trainer.strategy.reduce(own, reduce_op="max"))
        if (planned or reason) and trainer.global_step > self.saved_step:
            self._save(trainer, index, judged=self._is_judged(trainer.global_step, index))
        if stop := reason // 2:
            raise Interrupted(stop)

    def watches(self, trainer: Trainer, index: int) -> bool:
        """Whether it is time to save, or to stop."""
        return self._is_planned(trainer, index) or self._reason > 0 or self.interrupts.lock_lost

    @property
    def _reason(self) -> int:
        """Return why a checkpoint is due that is not planned: twice a signal, 1 for time, or 0."""
        late = time.monotonic() - self.saved_at >= self.seconds
        return 2 * (self.interrupts.received or 0) or int(late)

    def _is_planned(self, trainer: Trainer, index: int) -> bool:
        step = trainer.global_step  # which takes Lightning long to say
        return self._is_judged(step, index) or step % self.steps == 0

    def _is_judged(self, step: int, index: int) -> bool:
        """Whether these very weights were validated, also within an epoch."""
        return index == 0 or step == self.validated_step

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:
        """Note which weights were validated."""
        self.validated_step = trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Let Lightning step a ReduceLROnPlateau in an epoch that was continued too."""
        trainer.fit_loop._restarting = False

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        """Save the end."""
        if trainer.global_step > self.saved_step:
            self._save(trainer, 0, judged=True, ended=True)

    def teardown(self, trainer: Trainer, module: Any, stage: str) -> None:
        """Finish the last checkpoint; leave the other processes when all are done.

        At Python's end, a thread of gloo that still holds a tensor would abort the process.
        """
        self._finish_writing()
        if trainer.world_size > 1:
            trainer.strategy.barrier("teardown")
            if distributed.is_available() and distributed.is_initialized():
                distributed.destroy_process_group()

    def on_exception(self, trainer: Trainer, module: Any, error: BaseException) -> None:
        """Do the same if all processes stop at one step; after a failure none can wait."""
        self._finish_writing()
        if isinstance(error, Interrupted):
            self.teardown(trainer, module, "fit")

    def _save(self, trainer: Trainer, index: int, *, judged: bool, ended: bool = False) -> None:
        self.saved_step, self.saved_at = trainer.global_step, time.monotonic()
        self.metrics |= floats(trainer.callback_metrics)  # not every epoch need validate
        if judged:
            self._require_monitor(trainer, ended=ended)
        value = self.sign * self.metrics.get(self.monitor, math.nan)
        improved = judged and value < self.best
        if improved:
            self.best = value
        batches = trainer.train_dataloader
        assert isinstance(batches, Batches)
        batches.resume = (trainer.current_epoch, index)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.save()  # flush: what is logged up to here belongs to the checkpoint
        content = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        if trainer.is_global_zero:
            self._finish_writing()
            pool = ThreadPoolExecutor(max_workers=1)
            self.writing = pool.submit(self._write, serialize(content), improved=improved)
            pool.shutdown(wait=False)

    def _write(self, content: io.BytesIO, *, improved: bool) -> None:
        """Write beside training what is serialized already."""
        # The best first: what is killed in between writes it again, as it continues from before.
        folder = self.folder.checkpoints
        best, last = folder / BEST, folder / LAST
        if improved:
            write_serialized(content, best)
        if last.exists():
            last.replace(folder / PREVIOUS)
        if improved:
            link_atomically(best, last)
        else:
            write_serialized(content, last)

    def _finish_writing(self) -> None:
        """Wait for the last checkpoint to be on disk; raise what kept it from being written."""
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()

    def _require_monitor(self, trainer: Trainer, *, ended: bool) -> None:
        """Stop a run as soon as it is known that nothing logs what it monitors."""
        names = [name for name in self.metrics if not name.startswith("time/")]
        validated = any(name.startswith("val/") for name in names) or not trainer.enable_validation
        waits = self.monitor.endswith(f"/{FLIP_RATIO}") and trainer.current_epoch < 2 and not ended
        if self.monitor not in self.metrics and "train/loss" in names and validated and not waits:
            raise RunError(
                f"monitor is {self.monitor}, which nothing has logged by step "
                f"{trainer.global_step}{suggestion(self.monitor, names)} "
                f"(there are: {', '.join(sorted(names))})"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what this callback needs to continue."""
        return {"best": self.best, "saved_step": self.saved_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.best, self.saved_step = state["best"], state["saved_step"]

    def on_save_checkpoint(self, trainer: Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Add random generators, logs and metrics; uncount the batch that has not begun."""
        kind, keys, *rest = np.random.get_state(legacy=True)
        device = trainer.strategy.root_device
        states = {
            "torch": torch.get_rng_state(),
            "cuda": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
            "python": random.getstate(),
            "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        }
        checkpoint["random"] = gather(states)
        checkpoint["logged"] = logged(self.folder)
        checkpoint["metrics"] = self.metrics
        loops = checkpoint["loops"]["fit_loop"]
        batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
        at_start = batches["current"]["started"] == 0
        if batches["current"]["ready"] > batches["current"]["started"]:  # not at training's end
            batches["is_last_batch"] = False
            if self._is_counted_twice(trainer, at_start=at_start):
                loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1
        for part in ("current", "total"):
            batches[part]["ready"] = batches[part]["started"]
            if at_start:  # Lightning continues best from the end of the epoch before
                epochs[part]["ready"] = epochs[part]["started"] = epochs[part]["completed"]

    def _is_counted_twice(self, trainer: Trainer, *, at_start: bool) -> bool:
        """Whether Lightning would validate after the batch before, and so counts that once more."""
        every = trainer.check_val_every_n_epoch
        if not trainer.enable_validation or trainer.val_check_batch is None:
            return False
        if at_start and every is not None:  # where Lightning takes an epoch's end for its middle
            return trainer.max_steps != -1 and (trainer.current_epoch + 1) % every == 0
        validated = self.validated_step == trainer.global_step
        return validated and (not at_start or trainer.max_steps != -1)

    def on_load_checkpoint(self, trainer: Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Restore them; random generators wait until nothing but training draws from them."""
        self.metrics = checkpoint["metrics"]
        self.random = own_share(checkpoint["random"])

    def _restore_random(self, device: torch.device) -> None:
        if self.random:
            states, self.random = self.random[0], []
            torch.set_rng_state(states["torch"])
            if states["cuda"] and device.type == "cuda":
                # The run's own GPU; in older checkpoints all of the machine.
                own = 0 if len(states["cuda"]) == 1 else device.index
                torch.cuda.set_rng_state(states["cuda"][own], device)
            version, keys, gauss = states["python"]
            random.setstate((version, tuple(keys), gauss))
            kind, keys, *rest = states["numpy"]
            np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
        self.begun = True


def floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return epoch metrics as numbers; a step's own values are TensorBoard's."""
    return {name: float(value) for name, value in metrics.items() if not name.endswith("_step")}
