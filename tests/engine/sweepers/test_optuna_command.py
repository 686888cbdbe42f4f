"""``stelab train sweep=optuna`` as real processes: killed, failing, pruned, two at once."""

from __future__ import annotations

import signal
from pathlib import Path
from statistics import fmean

import optuna
from optuna.trial import FrozenTrial, TrialState

from conftest import Cli, Start
from stelab.engine.studies import Run, read_run
from stelab.engine.sweepers.trials import open_storage
from waiting import PATIENCE, wait_until

FAST = ("sweep=optuna", "debug=fast", "model=mlp", "data.limit=64", "seed=0,1")
LR = "optimizer.lr=tag(log,interval(1e-4,1e-1))"
JOURNAL = "hydra.sweeper.storage='journal:///outputs/debug/optuna.log'"


def trials(folder: Path) -> list[FrozenTrial]:
    """The trials of the only study in a folder."""
    place = folder / "outputs" / "debug"
    database = (place / "optuna.db").exists()
    url = f"sqlite:///{place}/optuna.db" if database else f"journal:///{place}/optuna.log"
    storage = open_storage(url)
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).trials


def runs(folder: Path) -> dict[str, Run]:
    """All runs of the study, by the folder's name from where the command ran."""
    paths = sorted(folder.glob("outputs/debug/*/run.json"))
    return {str(path.parent.relative_to(folder)): read_run(path.parent) for path in paths}


def test_a_killed_search_loses_and_repeats_nothing(cli: Cli, start: Start, tmp_path: Path) -> None:
    command = (*FAST, LR, "hydra.sweeper.n_trials=4")
    process = start("train", *command)
    try:
        wait_until(lambda: len(runs(tmp_path)) == 4, process=process, every=0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = {name: run for name, run in runs(tmp_path).items() if run.status == "finished"}
    assert 3 <= len(before) < 8

    result = cli("train", *command)
    assert result.returncode == 0, result.stderr
    after = runs(tmp_path)
    assert len(after) == 8
    assert {run.status for run in after.values()} == {"finished"}
    assert {name: after[name].record for name in before} == {n: r.record for n, r in before.items()}
    complete = [t for t in trials(tmp_path) if t.state == TrialState.COMPLETE]
    assert len(complete) == 4
    for trial in complete:
        replicates = [after[name] for name in trial.user_attrs["runs"]]
        assert [run.config["seed"] for run in replicates] == [0, 1]
        assert {run.config["optimizer"]["lr"] for run in replicates} == {
            trial.params["optimizer.lr"]
        }
        assert trial.value == fmean(run.metrics["val/loss"] for run in replicates)
    assert {t.state for t in trials(tmp_path)} <= {TrialState.COMPLETE, TrialState.FAIL}
    best = min(complete, key=lambda trial: trial.value or 0)
    assert f"with optimizer.lr={best.params['optimizer.lr']!r}\n" in result.stdout
    assert f"its runs: {' '.join(best.user_attrs['runs'])}\n" in result.stdout
    assert "[I " not in result.stderr
    assert "Warning" not in result.stderr

    again = cli("train", *command)
    assert again.returncode == 0, again.stderr
    assert {name: run.record for name, run in runs(tmp_path).items()} == {
        name: run.record for name, run in after.items()
    }
    assert len(trials(tmp_path)) <= 5  # those that came of the kill


def test_a_failing_choice_is_told_as_failed(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "fragile.py").write_text(
        "from stelab.estimators import Identity\n\n"
        "class Fragile(Identity):\n"
        '    """Fails in the forward pass."""\n\n'
        "    def forward(self, s, *, bits=None, generator=None):\n"
        "        raise RuntimeError('too fragile')\n"
    )
    (tmp_path / "conf" / "estimator").mkdir(parents=True)
    (tmp_path / "conf" / "estimator" / "fragile.yaml").write_text("_target_: fragile.Fragile\n")
    search = ("estimator=fragile,identity", "hydra.sweeper.n_trials=5")
    result = cli("train", "--config-dir", "conf", *FAST, *search, PYTHONPATH=str(tmp_path))
    assert result.returncode == 1, result.stderr
    assert "too fragile" in result.stderr
    assert "Traceback" not in result.stderr
    real = [t for t in trials(tmp_path) if "same_as" not in t.user_attrs]
    states = {t.params["estimator"]: t.state for t in real}
    assert len(real) == 2
    assert states == {"fragile": TrialState.FAIL, "identity": TrialState.COMPLETE}


def test_searches_at_once_share_a_study_and_its_pruner(start: Start, tmp_path: Path) -> None:
    # Above a loss of 0.5 after the first of two epochs, it is not worth a second one.
    pruner = "hydra.sweeper.pruner={_target_:optuna.pruners.ThresholdPruner,upper:0.5}"
    # In a journal, as on a file system that hosts share; the other tests use a database.
    command = (*FAST, LR, "hydra.sweeper.n_trials=5", pruner, "trainer.max_epochs=2", JOURNAL)
    processes = [start("train", *command) for _ in range(2)]
    results = [process.communicate(timeout=PATIENCE) for process in processes]
    for process, (_, stderr) in zip(processes, results, strict=True):
        assert process.returncode == 0, stderr
        assert "Traceback" not in stderr
    found = runs(tmp_path)
    # One that both searches drew is the other's, and has no runs of its own.
    for trial in (t for t in trials(tmp_path) if "same_as" not in t.user_attrs):
        first, *others = trial.user_attrs["runs"]
        if trial.state == TrialState.PRUNED:
            assert found[first].status == "pruned"
            assert trial.intermediate_values[0] > 0.5
            assert not any(other in found for other in others)
        elif trial.state == TrialState.COMPLETE:
            assert trial.intermediate_values[0] <= 0.5
            assert {found[name].status for name in trial.user_attrs["runs"]} == {"finished"}
    states = [t.state for t in trials(tmp_path)]
    assert {TrialState.PRUNED, TrialState.COMPLETE} <= set(states)
    assert len({tuple(t.params.items()) for t in trials(tmp_path)}) <= 5 + 1


def test_a_search_in_the_wrong_direction_is_refused_and_one_without_a_value_says_so(
    cli: Cli, tmp_path: Path
) -> None:
    search = (*FAST, "hydra.sweeper.n_trials=1", "optimizer=sgd")
    other = cli("train", *search, "optimizer.lr=interval(0.1,0.2)", "better=higher")
    assert other.returncode == 2
    assert "hydra.sweeper.direction must be maximize: better=higher" in other.stderr
    assert not runs(tmp_path)
    result = cli("train", *search, "optimizer.lr=interval(1e37,1e38)")
    assert result.returncode == 1, result.stderr
    assert "\nno trial of debug-" in result.stdout and " has a value\n" in result.stdout
    assert [run.status for run in runs(tmp_path).values()] == ["failed"]
