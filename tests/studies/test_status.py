"""What `stelab status` says of every kind of run, while and after a study runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Cli
from stelab.errors import InputError
from stelab.studies.status import RunState, state_of, survey
from stelab.studies.sweep import planned, record_sweep
from waiting import PATIENCE, wait_until


def a_run(study: Path, name: str, status: str, error: str | None = None) -> None:
    (study / name).mkdir(parents=True)
    record: dict[str, object] = {"status": status, "metrics": {}, "error": error}
    (study / name / "run.json").write_text(json.dumps(record))


def test_every_state(tmp_path: Path) -> None:
    record_sweep(tmp_path, "stelab train ...", {"b": ["seed=0"], "never": ["seed=1"], "a": []})
    record_sweep(tmp_path, "stelab train other", {"a": [], "c": []})
    assert sorted(planned(tmp_path)) == ["a", "b", "c", "never"]
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


def test_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no runs"):
        survey(tmp_path / "typo")


def test_the_same_sweep_is_one(tmp_path: Path) -> None:
    for _ in range(2):
        record_sweep(tmp_path, "stelab train ...", {"a": ["seed=0"]})
    assert len(list((tmp_path / "sweeps").iterdir())) == 1


def test_a_running_run_from_another_terminal(cli: Cli, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stelab", "train", "-m", "debug=fast", "model=mlp"]
    process = subprocess.Popen(
        [*command, "trainer.max_epochs=10000", "seed=0,1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    study = tmp_path / "outputs" / "debug"
    wait_until(lambda: bool(list(study.glob("*/progress.json"))))
    (folder,) = (path.parent for path in study.glob("*/progress.json"))
    state = state_of(folder)
    assert state == RunState(folder.name, "running", state.note, state.step, 20_000)
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
