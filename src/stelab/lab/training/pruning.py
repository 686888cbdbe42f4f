"""A run as the trial of an Optuna study: it reports its curve and may be told to stop."""

from __future__ import annotations

import logging
from typing import Any

import optuna
import pytorch_lightning as pl

from stelab.engine.config import build
from stelab.engine.studies.record import Pruned
from stelab.engine.sweepers.storage import open_storage
from stelab.lab.training.checkpoints import Checkpoints


class TrialReport(pl.Callback):
    """Reports the monitored metric after every epoch; stops the run when the pruner says so.

    Args:
        storage: Where the Optuna study is; see `stelab.engine.sweepers.storage.open_storage`.
        study: Its name.
        number: The trial.
        checkpoints: Knows the metrics of the last epoch, also of a run that was continued.
    """

    def __init__(self, *, storage: str, study: str, number: int, checkpoints: Checkpoints):
        optuna.logging.set_verbosity(logging.WARNING)
        self.study = optuna.load_study(study_name=study, storage=open_storage(storage))
        self.study.pruner = build(self.study.user_attrs["pruner"])
        self.number = number
        self.checkpoints = checkpoints

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Before an epoch's first batch, report the epoch before, and ask."""
        epoch = trainer.current_epoch - 1
        if batch_idx > 0 or epoch < 0:
            return
        (frozen,) = (t for t in self.study.get_trials(deepcopy=False) if t.number == self.number)
        trial = optuna.trial.Trial(self.study, frozen._trial_id)
        if epoch not in frozen.intermediate_values:
            trial.report(self.checkpoints.metrics[self.checkpoints.monitor], epoch)
        if trial.should_prune():
            raise Pruned(f"pruned after epoch {epoch}")
