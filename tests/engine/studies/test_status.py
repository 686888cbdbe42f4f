"""What `stelab status` says of every kind of run, while and after a study runs."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli, Start
from stelab.apps.status import start
from stelab.engine.config import compose
from stelab.engine.errors import InputError
from stelab.engine.report.console import PlainConsole
from stelab.engine.report.status_table import status_table
from stelab.engine.studies.lock import LEASE, locked
from stelab.engine.studies.status import RunState, state_of, survey, time_left
from stelab.engine.studies.sweep import driving, is_driven, planned, record_sweep
from waiting import PATIENCE, wait_until


def a_run(study: Path, name: str, status: str, error: str | None = None) -> None:
    (study / name).mkdir(parents=True)
    record: dict[str, object] = {"status": status, "metrics": {}, "error": error}
    (study / name / "run.json").write_text(json.dumps(record))


def test_every_state(tmp_path: Path) -> None:
    record_sweep(tmp_path, "stelab train ...", {"b": ["seed=0"], "never": ["seed=1"], "a": []})
    record_sweep(tmp_path, "stelab train other", {"a": [], "c": []})
    assert sorted(planned(tmp_path)[0]) == ["a", "b", "c", "never"]
    a_run(tmp_path, "a", "finished")
    a_run(tmp_path, "b", "failed", "Traceback ...\nValueError: too far\n")
    a_run(tmp_path, "c", "running")  # and nobody holds its lock
    a_run(tmp_path, "d", "interrupted", "stopped by SIGTERM")
    a_run(tmp_path, "e", "pruned", "pruned after epoch 3")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text('{"status": "fini')
    found = {state.name: state for state in survey(tmp_path)}
    assert {name: state.state for name, state in found.items()} == {
        **{"a": "finished", "b": "failed", "c": "interrupted", "d": "interrupted"},
        **{"e": "pruned", "never": "missing", "broken": "unreadable"},
    }
    assert found["b"].note == "ValueError: too far"
    assert "is not a readable run" in found["broken"].note


def test_one_bad_folder_hides_no_other(tmp_path: Path) -> None:
    record_sweep(tmp_path, "stelab train ...", {"never": ["seed=1"]})
    sweeps = {
        "long": json.dumps({"jobs": {"n" * 300: []}}),
        "nul": '{"jobs": {"a/\\u0000": []}}',
        "up": json.dumps({"jobs": {"../up": []}}),
        "lists": json.dumps({"jobs": {"a": 3}}),
        "deep": "[" * 100_000,
    }
    for name, content in sweeps.items():
        (tmp_path / "sweeps" / f"{name}.json").write_text(content)
    os.mkfifo(tmp_path / "sweeps" / "pipe.json")
    names = ("whole", "x", "pipe", "folder", "lock", "text", "progress")
    for name in names:
        a_run(tmp_path, name, "x" if name == "x" else "finished")
    for name in ("pipe", "folder"):
        (tmp_path / name / "run.json").unlink()
    os.mkfifo(tmp_path / "pipe" / "run.json")
    (tmp_path / "folder" / "run.json").mkdir()
    (tmp_path / "lock" / "lock").mkdir()
    (tmp_path / "text" / "lock").write_bytes(b"pid=\xff\n")
    (tmp_path / "nowhere").symlink_to("nowhere")
    (tmp_path / "empty").mkdir()
    with locked(tmp_path / "progress", on_loss=lambda: None):
        for content in ('{"step": "a", "steps": [1]}', "[" * 100_000, "[]"):
            (tmp_path / "progress" / "progress.json").write_text(content)
            found = {state.name: state for state in survey(tmp_path)}
            assert found["progress"].state == "running"
            assert found["progress"].step is None
    bad = {"x", "pipe", "folder", "lock", "nowhere"}
    bad |= {f"sweeps/{name}.json" for name in [*sweeps, "pipe"]}
    assert {name for name, state in found.items() if state.state == "unreadable"} == bad
    assert found["x"].note.endswith("its status is 'x', which is none of stelab's")
    assert found["lock"].note.endswith("makes which trains: remove it")
    assert found["text"] == RunState("text", "running", "another process")  # maybe
    assert found["whole"].state == "finished"
    assert found["never"].state == "missing"
    assert set(found) == {*names, *bad, "never"}


def test_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no runs"):
        survey(tmp_path / "typo")


def test_the_same_sweep_is_one(tmp_path: Path) -> None:
    for _ in range(2):
        record_sweep(tmp_path, "stelab train ...", {"a": ["seed=0"]})
    assert len(list((tmp_path / "sweeps").iterdir())) == 1


def test_runs_are_named_by_what_was_swept(tmp_path: Path) -> None:
    jobs = {
        f"identity-fixed0-s0-{i}": ["study=s", f"model.bits={bits}", f"optimizer.lr={lr}"]
        for i, (bits, lr) in enumerate(((128, 0.1), (256, 0.2)))
    }
    record_sweep(tmp_path, "stelab train sweep=paired ...", jobs)
    assert [state.settings for state in survey(tmp_path)] == [
        "model.bits=128 optimizer.lr=0.1",
        "model.bits=256 optimizer.lr=0.2",
    ]


def running(**known: Any) -> RunState:
    return RunState("r", "running", **known)


def finished(seconds: float) -> RunState:
    return RunState("f", "finished", seconds=seconds)


MISSING, INTERRUPTED = RunState("m", "missing"), RunState("i", "interrupted")


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([running(left=30.0)], 30),
        ([running(left=30.0), running(left=50.0)], 50),  # at once
        ([running(left=30.0), finished(60), finished(80), MISSING, INTERRUPTED], 30 + 2 * 70),
        ([running(left=30.0), running(left=40.0), finished(60), MISSING], (30 + 40 + 60) / 2),
        ([running(), finished(60)], 60),  # it has not begun to train
        ([running()], None),
        ([running(left=30.0), MISSING], None),  # nobody knows how long that takes
        ([finished(60), MISSING], 60),  # in the gap between two jobs
        ([finished(60)], None),
    ],
)
def test_the_time_left_of_a_study(states: list[RunState], expected: float | None) -> None:
    assert time_left(states) == expected


def test_progress_of_a_running_run(tmp_path: Path) -> None:
    progress = {"step": 50, "steps": 200, "epoch": 1, "left": 90.0}
    losses = {"train/loss": 0.25, "val/loss": 0.5}
    with locked(tmp_path / "run", on_loss=lambda: None):
        path = tmp_path / "run" / "progress.json"
        path.write_text(json.dumps({**progress, "losses": losses}))
        state = state_of(tmp_path / "run")
        assert (state.step, state.steps, state.losses) == (50, 200, losses)
        assert state.left is not None and 60 < state.left <= 90
        path.write_text(json.dumps({"step": 50, "steps": 200, "epoch": 1}))  # of before
        state = state_of(tmp_path / "run")
        assert (state.step, state.left, state.losses) == (50, None, {})
        for content in ("[]", '{"step": "1", "steps": []}', '{"step": 1, "steps": 2, "losses": 3}'):
            path.write_text(content)
            assert state_of(tmp_path / "run").losses == {}


def test_a_table_shows_losses_time_left_and_settings(tmp_path: Path) -> None:
    losses = {"train/loss": 0.25, "val/loss": 0.5}
    states = [
        running(step=50, steps=200, left=130.0, losses=losses, settings="seed=0"),
        RunState("n", "missing", settings="seed=1"),
        finished(3600.0),
    ]
    to = PlainConsole(width=200, file=io.StringIO())
    to.print(status_table(tmp_path, states, to, driven=True))
    assert isinstance(to.file, io.StringIO)
    first, _, heading, _, row, *_ = to.file.getvalue().splitlines()
    assert first == f"{tmp_path}: 3 runs: 1 finished, 1 missing, 1 running; about 1:02 h left"
    names = ["run", "settings", "state", "steps", "train/loss", "val/loss", "left"]
    assert heading.split() == names
    assert row.split() == [
        *("r", "seed=0", "running", "50", "of", "200", "0.2500", "0.5000", "2:10", "min")
    ]


def test_a_sweep_is_driven_while_its_driver_lives(tmp_path: Path) -> None:
    record_sweep(tmp_path, "stelab train ...", {"a": ["seed=0"], "b": ["seed=1"]})
    assert not is_driven(tmp_path)
    with driving([tmp_path]):
        assert is_driven(tmp_path)
        with driving([tmp_path]):  # another one
            pass
        assert is_driven(tmp_path)
    assert not is_driven(tmp_path)
    assert [path.suffix for path in (tmp_path / "sweeps").iterdir()] == [".json"]
    assert [state.state for state in survey(tmp_path)] == ["missing"] * 2


def test_what_only_looks_like_a_driver_keeps_no_sweep_from_its_own(tmp_path: Path) -> None:
    (tmp_path / "sweeps" / "driver-odd" / "lock").mkdir(parents=True)
    assert not is_driven(tmp_path)
    with driving([tmp_path]):
        assert is_driven(tmp_path)


def test_what_killed_drivers_left_behind_is_removed_once_it_is_old(tmp_path: Path) -> None:
    old, young = (tmp_path / "sweeps" / f"driver-{age}" for age in ("old", "young"))
    for folder, age in ((old, 3 * LEASE), (young, 0)):
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age, time.time() - age))
    with driving([tmp_path]):
        assert young.exists() and not old.exists()


def test_a_file_where_sweeps_are_listed_is_told(tmp_path: Path) -> None:
    (tmp_path / "sweeps").touch()
    with pytest.raises(InputError, match="sweeps must be a folder, but a file is there: move it"):
        record_sweep(tmp_path, "stelab train ...", {"a": ["seed=0"]})


def test_watching_goes_on_in_the_gap_between_two_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing runs, but the sweep's driver lives: it ends with the driver, not with the gap."""
    study = tmp_path / "s"
    record_sweep(study, "stelab train ...", {"a": ["seed=0"], "b": ["seed=1"]})
    looks: list[str] = []
    with ExitStack() as driver:
        driver.enter_context(driving([study]))

        def sleep(seconds: float) -> None:
            looks.append(survey(study)[0].state)
            if len(looks) == 1:
                a_run(study, "a", "finished")
            elif len(looks) == 3:
                driver.close()

        monkeypatch.setattr("stelab.apps.status.time.sleep", sleep)
        start(compose("paths.outputs=" + str(tmp_path), "study=s", "watch=true", command="status"))
    assert looks == ["missing", "finished", "finished"]


def test_a_running_run_from_another_terminal(cli: Cli, start: Start, tmp_path: Path) -> None:
    command = ("train", "-m", "debug=fast", "model=mlp", "trainer.max_epochs=10000", "seed=0,1")
    process = start(*command)
    study = tmp_path / "outputs" / "debug"
    wait_until(lambda: bool(list(study.glob("*/progress.json"))))
    (folder,) = (path.parent for path in study.glob("*/progress.json"))
    state = state_of(folder)
    assert (state.name, state.state, state.steps) == (folder.name, "running", 20_000)
    assert state.note.startswith(f"process {process.pid} on ")
    first = state.step
    assert first is not None
    result = cli("status", "study=debug")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("outputs/debug: 2 runs: 1 missing, 1 running\n")
    assert " of 20000 " in result.stdout
    wait_until(lambda: (state_of(folder).step or 0) > first)

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert state_of(folder).state == "interrupted"
    assert not (folder / "progress.json").exists()
    watched = cli("status", "study=debug", "watch=true")  # nothing runs: it ends
    assert "1 missing, 1 interrupted" in watched.stdout


def test_mistakes(cli: Cli) -> None:
    for arguments, message in (
        (["study=nope"], "outputs/nope holds no runs"),
        (["stduy=nope"], "did you mean 'study'"),
        (["watch=perhaps"], "watch must be a valid boolean"),
    ):
        result = cli("status", *arguments)
        assert result.returncode == 2
        assert message in result.stderr
        assert result.stdout == ""
