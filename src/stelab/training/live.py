"""progress.json: how far a running run has come, for `stelab status`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from stelab.studies.record import PROGRESS

SECONDS = 1.0


class LiveProgress(pl.Callback):
    """Writes ``{"step": ..., "steps": ...}`` about once a second while training.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path):
        self.path = folder / PROGRESS
        self.written = 0.0

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write, where a second is over."""
        now = time.monotonic()
        if now - self.written < SECONDS or not trainer.is_global_zero:
            return
        self.written = now
        progress = {
            "step": trainer.global_step,
            "steps": int(trainer.estimated_stepping_batches),
            "epoch": trainer.current_epoch,
        }
        # Renamed for readers, but not flushed to disk: a crash may lose it.
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(progress))
        temporary.replace(self.path)
