"""A run of MLflow's that goes on where it was stopped."""

from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import MLFlowLogger


class MLflowRun(MLFlowLogger):
    """Lightning's logger, but that a run which was stopped or killed is not listed twice.

    The run of this name that has not finished goes on, with the parameters that it began with;
    MLflow lets none of them change. Arguments: see Lightning's.
    """

    goes_on = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Return MLflow's client, with a run that was found or made."""
        if not self._initialized and self._run_id is None:
            self._run_id = self._unfinished()
            self.goes_on = self._run_id is not None
        return super().experiment

    def log_hyperparams(self, params: Any) -> None:
        """Log them where the run begins."""
        if self.experiment and not self.goes_on:
            super().log_hyperparams(params)

    def _unfinished(self) -> str | None:
        client = self._mlflow_client
        known = client.get_experiment_by_name(self._experiment_name)
        if known is None or known.lifecycle_stage == "deleted":
            return None
        condition = f"attributes.run_name = '{self._run_name}' and attributes.status != 'FINISHED'"
        for run in client.search_runs([known.experiment_id], condition, max_results=1):
            client.update_run(run.info.run_id, status="RUNNING")
            return str(run.info.run_id)
        return None
