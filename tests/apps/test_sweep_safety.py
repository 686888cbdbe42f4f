"""Sweeps under attack: killed, started twice, out of space, with jobs that fail."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli, Start
from stelab.engine.studies import read_run
from waiting import PATIENCE, wait_until
from zygote import Fork, Zygote

FAST = ("debug=fast", "model=mlp")
# A second or so of training a job, and a checkpoint at every other step.
SLOW = ("data.limit=1000", "trainer.max_epochs=2", "checkpoint.every_n_steps=2")


Sweep = Callable[..., Fork]


@pytest.fixture
def sweep(start: Start) -> Sweep:
    return partial(start, "train", "-m", *FAST, stderr=subprocess.STDOUT)


def attempts(folder: Path) -> list[dict[str, Any]]:
    timings = json.loads((folder / "run.json").read_text())["timings"]
    found: list[dict[str, Any]] = timings["attempts"]
    return found


def folders(tmp_path: Path, study: str = "debug") -> list[Path]:
    return sorted(path.parent for path in tmp_path.glob(f"outputs/{study}/*/run.json"))


def grown(tmp_path: Path, count: int) -> bool:
    return len(folders(tmp_path)) >= count


@pytest.mark.parametrize(
    "launchers",
    [("serial",) * 3, ("joblib", "serial", "serial")],
    ids=["serial", "begun with one and finished with another"],
)
def test_a_sweep_killed_twice_finishes_every_run_once(
    sweep: Sweep, tmp_path: Path, launchers: tuple[str, str, str]
) -> None:
    command = (*SLOW, "estimator=identity,gumbel_st", "seed=0,1,2,3")
    # Two at once wherever this runs, so that a kill finds some finished and others not begun.
    options = {"serial": [], "joblib": ["hydra.launcher.n_jobs=2"]}
    *killed, last = ((f"hydra/launcher={name}", *options[name]) for name in launchers)
    when = random.Random(0)
    finished: dict[str, int] = {}
    for launcher in killed:
        process = sweep(*command, *launcher)
        wait_until(partial(grown, tmp_path, len(folders(tmp_path)) + 3), every=0.01)
        time.sleep(when.random())
        process.kill()
        process.communicate()
        for folder in folders(tmp_path):
            if read_run(folder).status == "finished":
                finished.setdefault(folder.name, (folder / "run.json").stat().st_mtime_ns)
    assert 0 < len(finished) < 8
    process = sweep(*command, *last)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output

    runs = [read_run(folder) for folder in folders(tmp_path)]
    assert [run.status for run in runs] == ["finished"] * 8
    for run in runs:
        if run.name in finished:  # not touched again
            assert (run.folder / "run.json").stat().st_mtime_ns == finished[run.name]
        # Each attempt began where a checkpoint of the one before stood, and none went back.
        steps = [attempt["from_step"] for attempt in attempts(run.folder)]
        assert steps == sorted(steps)
        assert steps[-1] <= 32  # its last: only the test was missing


def test_two_identical_sweeps_share_the_work(sweep: Sweep, tmp_path: Path) -> None:
    pair = [sweep(*SLOW, "seed=0,1,2,3,4,5") for _ in range(2)]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    trained = [attempts(folder) for folder in folders(tmp_path)]
    assert len(trained) == 6
    assert all(len(run) == 1 for run in trained)
    assert {run[0]["pid"] for run in trained} == {process.pid for process in pair}


FRAGILE = '''
"""An estimator that fails for some seeds."""

from stelab.arguments import Count, checked
from stelab.estimators import Identity


class Fragile(Identity):
    @checked
    def __init__(self, *, seed: int):
        super().__init__()
        self.seed = seed

    def forward(self, s, *, bits=None, generator=None):
        if self.seed in BROKEN:
            raise RuntimeError("too fragile")
        return super().forward(s, bits=bits, generator=generator)
'''


def fragile(tmp_path: Path, broken: str) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE + f"\n\nBROKEN = {broken}\n")
    group = tmp_path / "conf" / "estimator"
    group.mkdir(parents=True, exist_ok=True)
    (group / "fragile.yaml").write_text("_target_: fragile.Fragile\nseed: ${seed}\n")


def test_failures_are_listed_with_the_command_that_runs_only_those(
    cli: Cli, tmp_path: Path
) -> None:
    fragile(tmp_path, "(1, 3)")
    command = ("train", "-m", "--config-dir", "conf", *FAST, "estimator=fragile")
    result = cli(*command, "seed=0,1,2,3,4", "study=s", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    states = [read_run(folder).status for folder in folders(tmp_path, "s")]
    assert states == ["finished", "failed", "finished", "failed", "finished"]
    assert result.stdout.count("failed: RuntimeError: too fragile") == 2
    assert "Traceback" not in result.stdout + result.stderr
    assert "Traceback" in read_run(folders(tmp_path, "s")[1]).record["error"]
    (again,) = (line for line in result.stderr.splitlines() if "only=failed" in line)

    fragile(tmp_path, "(3,)")  # one of them is mended
    words = again.partition("stelab ")[2].split()
    before = {f: (f / "run.json").stat().st_mtime_ns for f in folders(tmp_path, "s")}
    result = cli(*words, PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert result.stdout.startswith("2 jobs, 0 finished already\n")
    changed = [f for f in before if (f / "run.json").stat().st_mtime_ns != before[f]]
    assert [f.name.split("-")[2] for f in changed] == ["s1", "s3"]
    assert [read_run(f).status for f in changed] == ["finished", "failed"]

    fragile(tmp_path, "()")
    assert cli(*words, PYTHONPATH=str(tmp_path)).returncode == 0
    nothing = cli(*words, PYTHONPATH=str(tmp_path))
    assert nothing.returncode == 2
    assert "no job of this sweep failed" in nothing.stderr


def test_a_sweep_that_stops_at_a_failure(cli: Cli, tmp_path: Path) -> None:
    fragile(tmp_path, "(1,)")
    command = ("train", "-m", "--config-dir", "conf", *FAST, "estimator=fragile")
    result = cli(*command, "seed=0,1,2,3", "on_failure=stop", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert [read_run(f).status for f in folders(tmp_path)] == ["finished", "failed"]
    assert result.stdout.count("\n2 missing: the same command runs them\n") == 1


MOUNT = 'mount -t tmpfs -o size=34m none "$1" && shift && exec "$@"'
SHELL = "import subprocess, sys\nsubprocess.run(sys.argv[1:], check=True)"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Start]:
    """Start a command in ``small``, a disk of 34 MB that others do not see."""
    disk = tmp_path / "small"
    disk.mkdir()
    namespace = ("unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh", str(disk))
    zygote = Zygote(os.environ, tmp_path, prefix=namespace)
    yield partial(zygote.start, cwd=disk, environment=os.environ)
    zygote.close()


def test_a_full_disk_loses_nothing(small: Start, tmp_path: Path) -> None:
    command = ("train", *FAST, "data.limit=500", "seed=1", "checkpoint.every_n_steps=1")
    assert small("train", *FAST, "study=whole").wait(PATIENCE) == 0
    full = small(*command)
    _, told = full.communicate(PATIENCE)
    assert full.returncode == 1
    assert "there is no space left for outputs/debug/identity-fixed0-s1-" in told
    assert "Traceback" not in told
    assert small("cp", "-r", "outputs", "../during", code=SHELL).wait(PATIENCE) == 0
    assert small("mount", "-o", "remount,size=200m", ".", code=SHELL).wait(PATIENCE) == 0
    assert small(*command).wait(PATIENCE) == 0
    assert small("cp", "-r", "outputs", "../after", code=SHELL).wait(PATIENCE) == 0
    (whole,) = (tmp_path / "during" / "whole").iterdir()
    assert read_run(whole).status == "finished"
    (folder,) = (tmp_path / "after" / "debug").iterdir()
    run = read_run(folder)
    assert run.status == "finished"
    assert [a["from_step"] > 0 for a in attempts(folder)] == [False, True]


def test_a_signal_reaches_the_job_under_way(sweep: Sweep, tmp_path: Path) -> None:
    process = sweep(*SLOW, "trainer.max_epochs=1000", "seed=0,1,2")
    wait_until(lambda: bool(list(tmp_path.glob("outputs/debug/*/checkpoints/last.ckpt"))))
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in output
    (folder,) = folders(tmp_path)
    assert read_run(folder).status == "interrupted"
    assert output.splitlines()[-1] == "2 missing, 1 interrupted; the same command continues"
    assert output.count("missing") == 1


def test_who_waits_for_another_process_can_be_stopped(sweep: Sweep, tmp_path: Path) -> None:
    endless = (*SLOW, "trainer.max_epochs=1000", "seed=0")
    first = sweep(*endless)
    wait_until(lambda: bool(folders(tmp_path)))
    second = sweep(*endless)
    wait_until(lambda: f"is being trained by process {first.pid}" in second.out.read_text())
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=PATIENCE)
    assert second.returncode == 128 + signal.SIGINT
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=PATIENCE)
    (run,) = map(read_run, folders(tmp_path))
    assert run.status == "interrupted"
    assert [a["pid"] for a in run.record["timings"]["attempts"]] == [first.pid]
