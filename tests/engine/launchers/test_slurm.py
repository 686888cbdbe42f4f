"""``hydra/launcher=submitit_slurm`` on a real SLURM, of one node."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any, ClassVar

import cloudpickle
import pytest
from omegaconf import DictConfig, OmegaConf
from sweeps import Sweep

from stelab.engine.errors import InputError
from stelab.engine.launchers import schedule, submission
from stelab.engine.launchers.job import Outcome
from stelab.engine.launchers.schedule import Job, Schedule
from stelab.engine.launchers.submission import SubmittedToSlurm
from waiting import PATIENCE, wait_until
from zygote import Zygote

SCRIPT = Path(__file__).with_name("slurm_cluster.sh")


@pytest.fixture
def slurm(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Start SLURM, with a line more in its slurm.conf; return what its commands need."""
    more = [request.param] if hasattr(request, "param") else []
    command = [SCRIPT, "start", tmp_path / "slurm", *more]
    started = subprocess.run(command, capture_output=True, text=True)
    try:
        if started.returncode:
            message = f"no SLURM: {started.stderr.strip()}"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)
        yield {"SLURM_CONF": str(tmp_path / "slurm" / "slurm.conf")}
    finally:
        subprocess.run([SCRIPT, "stop", tmp_path / "slurm"])


def test_a_requeued_and_a_preempted_job_end_as_undisturbed_ones(
    zygote: Zygote, tmp_path: Path, slurm: dict[str, str]
) -> None:
    sweep = Sweep(tmp_path / "disturbed", slurm, zygote=zygote)
    epochs = ("trainer.max_epochs=12",)
    slow = ("estimator.sleep=0.2", *epochs)

    def ask(*command: str) -> str:
        done = subprocess.run(command, env=sweep.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with sweep.start("seed=0,1,2", "hydra/launcher=submitit_slurm", *slow) as driver:
        wait_until(lambda: sweep.seen() == {0, 1})
        running = ask("squeue", "--noheader", "--array", "--states=R", "--format=%i").split()
        array = {job.partition("_")[0] for job in running}
        assert len(running) == 2 and len(array) == 1  # a job array
        ask("scontrol", "requeue", running[0])
        wait_until(lambda: 2 in sweep.seen())
        # Takes the whole node: all others are requeued.
        ask("sbatch", "--partition=high", "--cpus-per-task=2", "--output=/dev/null", "--wrap=true")
        output = "".join(driver.communicate(timeout=PATIENCE))
    assert driver.returncode == 0, output
    attempts = {seed: r["timings"]["attempts"] for seed, r in sweep.records().items()}
    assert sum(len(list(sweep.notes.glob(f"{seed}-*"))) for seed in range(3)) >= 5
    assert all(attempt["from_step"] > 0 for tries in attempts.values() for attempt in tries[1:])

    again = Sweep(tmp_path / "undisturbed", zygote=zygote)
    code, output = again.run("seed=0,1,2", *epochs)
    assert code == 0, output
    assert sweep.metrics() == again.metrics()


LIMITED = """#!/bin/sh
# sbatch under a QOS with MaxSubmitJobsPerUser=7, which needs SLURM's accounting database.
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
if [ $(($(squeue --noheader --array --me | wc -l) + ${last:-0} + 1)) -gt 7 ]; then
    echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
    echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy" >&2
    exit 1
fi
exec REAL "$@"
"""


class Trivial:
    """A job that does nothing, instead of an `Attempt`."""

    logging: ClassVar[dict[str, Any]] = {"root": None}

    def __init__(self, cfg: DictConfig, logging: dict[str, Any]):
        self.seed: int = cfg.seed

    def __call__(self) -> Outcome:
        return Outcome("finished", value=float(self.seed))


@pytest.mark.parametrize("slurm", ["MaxArraySize=5"], indirect=True)
def test_more_jobs_than_an_array_and_a_user_may_have(
    tmp_path: Path,
    slurm: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(schedule, "Attempt", Trivial)
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    parameters: dict[str, Any] = {
        "timeout_min": 5,
        "cpus_per_task": 1,
        "slurm_array_parallelism": 6,
    }
    folder = tmp_path / "jobs"

    def jobs(number: int) -> Iterator[Job]:
        for seed in range(number):
            paths = {"run": str(tmp_path / f"run{seed}")}
            tree = {"paths": paths, "seed": seed, "rerun": False, "monitor": "loss"}
            title = f"{seed + 1} of {number}"
            yield Job(OmegaConf.create(tree), title)

    def run(number: int) -> dict[int, float | None]:
        values: dict[int, float | None] = {}
        executor = SubmittedToSlurm(folder, parameters)
        assert executor.largest == 5
        Schedule(
            executor=executor,
            jobs=jobs(number),
            done=lambda job, outcome: values.update({job.cfg.seed: outcome.value}),
            logging={},
            retries=0,
            on_failure="continue",
        ).run()
        executor.stop()
        return values

    assert run(12) == {seed: seed for seed in range(12)}
    scripts = [path.read_text() for path in folder.glob("*/*_submission.sh")]
    arrays = re.findall(r"--array=(\S+)", "".join(scripts))
    assert sorted(arrays) == ["0-1%1", "0-4%2", "0-4%3"]  # six at once in all
    assert capsys.readouterr().err == ""

    (tmp_path / "sbatch").write_text(LIMITED.replace("REAL", str(which("sbatch")), 1))
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert run(10) == {seed: seed for seed in range(10)}
    (told,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"SLURM takes no more jobs now, \d wait: QOSMaxSubmitJobPerUserLimit; "
        "Batch job submission failed: Job violates accounting/QOS policy",
        told,
    )
    assert not list(folder.glob("*/????????????????????????????????.pkl"))

    parameters["slurm_partition"] = "absent"
    with pytest.raises(InputError, match="^SLURM takes no job: .*[Ii]nvalid partition"):
        run(3)


class Killed(Trivial):
    """A job that is killed."""

    def __init__(self) -> None:
        pass

    def __call__(self) -> Outcome:
        """Be killed."""
        os.kill(os.getpid(), signal.SIGKILL)
        return Outcome("finished")


class Endless(Trivial):
    """A job that goes on until it is stopped."""

    def __init__(self, begun: Path):
        self.begun = begun

    def __call__(self) -> Outcome:
        """Go on."""
        self.begun.touch()
        time.sleep(600)
        return Outcome("finished")


def test_a_killed_job_is_explained_and_those_under_way_and_waiting_are_stopped(
    tmp_path: Path, slurm: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    monkeypatch.setattr("stelab.engine.launchers.submission._QUEUE_AGE", 0.5)
    executor = SubmittedToSlurm(tmp_path / "jobs", {"timeout_min": 5, "cpus_per_task": 1})
    (killed,) = executor.start([Killed()])  # type: ignore[list-item]

    def is_over() -> bool:
        executor.poll()
        return killed.done()

    wait_until(is_over)
    assert killed.result().status == "died"
    reason = r"SLURM's job \d+(_0)? ended without a result: FAILED, exit code \d+:\d+"
    assert re.fullmatch(reason, killed.result().reason)

    paths = [tmp_path / f"begun{i}" for i in range(3)]  # on a node of two processors
    executor.start([Endless(path) for path in paths])  # type: ignore[misc]
    wait_until(lambda: sum(path.exists() for path in paths) == 2)
    executor.stop()
    assert submission._queue() == set()
    assert sum(path.exists() for path in paths) == 2


def test_a_machine_without_slurm_is_an_input_error(zygote: Zygote, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, {"PATH": str(tmp_path)}, zygote=zygote)
    code, output = sweep.run("seed=0,1", "hydra/launcher=submitit_slurm")
    assert code == 2
    assert 'Could not detect "srun"' in output
    assert not sweep.records()
