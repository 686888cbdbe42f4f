"""A run as the trial of an Optuna study: it reports its curve and may be told to stop."""

import logging
from typing import Any

import optuna
from pytorch_lightning import Callback, Trainer

from stelab.engine.config import build
from stelab.engine.studies.record import Pruned
from stelab.engine.sweepers.trials import open_storage
from stelab.lab.training.checkpoints import Checkpoints


class TrialReport(Callback):
    """Report the monitored metric after every epoch; stop the run when the pruner says so.

    `checkpoints` knows the metrics of the last epoch, also of a run that was continued.
    """

    def __init__(self, *, storage: str, study: str, number: int, checkpoints: Checkpoints):
        optuna.logging.set_verbosity(logging.WARNING)
        self.study = optuna.load_study(study_name=study, storage=open_storage(storage))
        self.study.pruner = build(self.study.user_attrs["pruner"])
        self.number = number
        self.checkpoints = checkpoints

    def watches(self, trainer: Trainer, index: int) -> bool:
        """An epoch's first."""
        return index == 0

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        """Before an epoch's first batch, report the epoch before, and ask."""
        epoch = trainer.current_epoch - 1
        value = self.checkpoints.metrics.get(self.checkpoints.monitor)
        if index > 0 or epoch < 0 or value is None:
            return
        (frozen,) = (t for t in self.study.get_trials(deepcopy=False) if t.number == self.number)
        trial = optuna.trial.Trial(self.study, frozen._trial_id)
        if epoch not in frozen.intermediate_values:
            trial.report(value, epoch)
        if trial.should_prune():
            raise Pruned(f"pruned after epoch {epoch}")
