"""logger=wandb and logger=mlflow, without a server; and two jobs in one process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.tracking import MlflowClient

import stelab
from conftest import Cli, train
from resuming import stop_at
from stelab.lab.training.check import check
from waiting import wait_until


def test_each_job_has_a_run_of_wandb(tmp_path: Path) -> None:
    options = ("logger=wandb", "logger.wandb.offline=true", "tags=[first]")
    runs = [train(tmp_path, *options, f"seed={seed}") for seed in (0, 1)]
    cfg = stelab.compose("debug=fast", "model=mlp", *options, f"paths.outputs={tmp_path}")
    check([cfg])  # nobody need be logged in
    wandb = sys.modules["wandb"]
    assert wandb.run is None
    for run in runs:
        (offline,) = run.folder.glob("wandb/offline-run-*")
        (log,) = offline.glob("run-*.wandb")
        assert offline.name.endswith(run.name)
        for text in (run.name, "first", "val/loss", "threshold"):
            wait_until(lambda text=text, log=log: text.encode() in log.read_bytes())  # type: ignore[misc]
        assert (run.folder / "metrics.csv").exists()
        assert list((run.folder / "tb").glob("events*"))


def test_nobody_logged_in_is_told_before_anything_starts(cli_process: Cli, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path / "home"), "NETRC": str(tmp_path / "none"), "WANDB_API_KEY": ""}
    result = cli_process("train", "-m", "debug=fast", "seed=0,1", "logger=wandb", **home)
    assert result.returncode == 2
    told = "stelab: logger=wandb needs an account, but nobody is logged in: run wandb login, set"
    assert told in result.stderr
    assert "in 2 of 2 jobs" in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.glob("outputs/*/*/run.json"))


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_each_job_has_a_run_of_mlflow(tmp_path: Path) -> None:
    runs = [train(tmp_path, "logger=mlflow", "tags=[first]", f"seed={seed}") for seed in (0, 1)]
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("debug")
    assert experiment is not None
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(found) == {run.name for run in runs}
    for run in runs:
        data, info = found[run.name].data, found[run.name].info
        assert info.status == "FINISHED"
        assert data.metrics["val/loss"] == pytest.approx(run.metrics["val/loss"])
        assert data.params["seed"] == str(run.config["seed"])
        assert "first" in data.params["tags"]
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert not mlflow.is_tracking_uri_set()


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_a_run_that_goes_on_is_one_run_of_mlflow(tmp_path: Path) -> None:
    options = ("logger=mlflow", "trainer.max_epochs=2")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")

    def listed() -> list[Any]:
        experiment = client.get_experiment_by_name("debug")
        assert experiment is not None
        return [*client.search_runs([experiment.experiment_id])]

    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit):
        stop_at(patched, 3)
        train(tmp_path, *options)
    (stopped,) = listed()
    assert stopped.info.status != "FINISHED"
    # A parameter that MLflow would not let change.
    run = train(tmp_path, *options, "trainer.log_every_n_steps=7")
    (finished,) = listed()
    assert (finished.info.run_id, finished.info.status) == (stopped.info.run_id, "FINISHED")
    assert finished.data.metrics["test/mse"] == pytest.approx(run.metrics["test/mse"])
    train(tmp_path, *options, "rerun=true")
    assert len(listed()) == 2


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_a_dry_run_makes_no_file_of_mlflow(tmp_path: Path) -> None:
    lines = ("debug=fast", "model=mlp", "logger=mlflow", f"paths.outputs={tmp_path}/outputs")
    check([stelab.compose(*lines, "dry_run=true")])
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_an_absent_package_is_told_at_once(cli: Cli, tmp_path: Path, package: str) -> None:
    absent = f"import sys\nsys.modules[{package!r}] = None\n"
    command = "from stelab.apps.main import main\nmain()\n"
    result = cli("train", "debug=fast", f"logger={package}", code=absent + command)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert f"needs {package}: pip install 'stelab[{package}]'" in result.stderr
    assert not (tmp_path / "outputs").exists()
