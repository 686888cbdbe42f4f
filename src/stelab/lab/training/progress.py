"""How far training has come: in progress.json, for `stelab status`, and as a bar."""

import json
import sys
import time
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

from stelab.engine.studies.record import RunFolder

SECONDS = 1.0
PARTS = 100


class ProgressFile(Callback):
    """Write how far training is, its last losses and the time left, as a reader sees a change.

    At most once a second and once per cent, so that a thousand runs are no load for a file system
    that they share; and after the last step. `left` are seconds, at this process's pace so far.
    """

    def __init__(self, folder: RunFolder):
        self.folder = folder
        self.written = float("-inf")
        self.next_step = self.steps = self.first = 0
        self.begun = 0.0

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Start the clock; a continued run has steps behind it that this process did not take."""
        self.steps = int(trainer.estimated_stepping_batches)  # which is slow to ask for
        self.begun, self.first = time.monotonic(), trainer.global_step

    def watches(self, trainer: Trainer, index: int) -> bool:
        """No step: what is seen now and then is enough."""
        return False

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Write when both a per cent and a second have passed."""
        step = trainer.global_step
        if step < self.next_step or not trainer.is_global_zero:
            return
        now = time.monotonic()
        if now - self.written < SECONDS and step < self.steps:
            return
        self.written = now
        # The first step of the next per cent; the last step of all is one.
        self.next_step = -(-self.steps * (PARTS * step // self.steps + 1) // PARTS)
        taken = step - self.first
        progress = {
            "step": step,
            "steps": self.steps,
            "epoch": trainer.current_epoch,
            "left": (now - self.begun) * (self.steps - step) / taken if taken else None,
            "losses": last_losses(trainer),
        }
        # Renamed for readers, but not flushed to disk: a crash may lose it.
        self.folder.unfinished_progress.write_text(json.dumps(progress))
        self.folder.unfinished_progress.replace(self.folder.progress)


class RunBar(Callback):
    """One bar for a whole run, of which Lightning's `ProgressBar` shows an epoch."""

    def __init__(self) -> None:
        self._bar = Tqdm(disable=True)

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Start the bar where the checkpoint left off."""
        self._bar = Tqdm(
            total=int(trainer.estimated_stepping_batches),
            initial=trainer.global_step,
            file=sys.stdout,
            unit="step",
            dynamic_ncols=True,
            smoothing=0,
            disable=not trainer.is_global_zero,
        )

    def watches(self, trainer: Trainer, index: int) -> bool:
        """No step: what is seen now and then is enough."""
        return False

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Advance; read the losses only when the bar is redrawn: a GPU has to wait for that."""
        if self._bar.update(trainer.global_step - self._bar.n):
            self._describe(trainer)

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        """Leave the last losses on the screen."""
        self._describe(trainer)
        self._bar.close()

    def on_exception(self, *_: Any) -> None:
        """Leave the line to the error message."""
        self._bar.close()

    def _describe(self, trainer: Trainer) -> None:
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
        text = f"{min(epoch, epochs)} of {epochs}" if epochs > 0 else str(epoch)
        self._bar.set_description(f"epoch {text}", refresh=False)
        self._bar.set_postfix({k: f"{loss:.4g}" for k, loss in last_losses(trainer).items()})


def last_losses(trainer: Trainer) -> dict[str, float]:
    """Return the loss of the last step as ``train/loss``, and ``val/loss`` of the last epoch."""
    metrics = trainer.callback_metrics
    logged = {"train/loss": "train/loss_step", "val/loss": "val/loss"}
    return {name: float(metrics[key]) for name, key in logged.items() if key in metrics}
