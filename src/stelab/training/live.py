"""progress.json: how far a running run has come, for `stelab status`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from stelab.studies.record import PROGRESS

SECONDS = 1.0
PARTS = 100


class LiveProgress(pl.Callback):
    """Writes ``{"step": ..., "steps": ...}`` while training, as often as a reader sees a change.

    At most once a second and once per cent, so that a thousand runs are no load for a file system
    that they share; and after the last step.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path):
        self.path = folder / PROGRESS
        self.written = float("-inf")
        self.next_step = 0
        self.steps = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note how many steps there are, which is slow to ask for."""
        self.steps = int(trainer.estimated_stepping_batches)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write, where a per cent and a second are over."""
        step = trainer.global_step
        if step < self.next_step or not trainer.is_global_zero:
            return
        now = time.monotonic()
        if now - self.written < SECONDS and step < self.steps:
            return
        self.written = now
        # The first step of the next per cent; the last step of all is one.
        self.next_step = -(-self.steps * (PARTS * step // self.steps + 1) // PARTS)
        self._write({"step": step, "steps": self.steps, "epoch": trainer.current_epoch})

    def _write(self, progress: dict[str, int]) -> None:
        # Renamed for readers, but not flushed to disk: a crash may lose it.
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(progress))
        temporary.replace(self.path)
