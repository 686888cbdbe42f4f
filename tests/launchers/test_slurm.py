"""``hydra/launcher=submitit_slurm`` on a real SLURM, of one node."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sweeps import Sweep, wait_until

SCRIPT = Path(__file__).with_name("slurm_cluster.sh")


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Start SLURM; return the environment that its commands need."""
    started = subprocess.run([SCRIPT, "start", tmp_path / "slurm"], capture_output=True, text=True)
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
    tmp_path: Path, slurm: dict[str, str]
) -> None:
    sweep = Sweep(tmp_path / "disturbed", **slurm)
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
        output = "".join(driver.communicate(timeout=120))
    assert driver.returncode == 0, output
    attempts = {seed: r["timings"]["attempts"] for seed, r in sweep.records().items()}
    assert sum(len(list(sweep.notes.glob(f"{seed}-*"))) for seed in range(3)) >= 5
    assert all(attempt["from_step"] > 0 for tries in attempts.values() for attempt in tries[1:])

    again = Sweep(tmp_path / "undisturbed")
    code, output = again.run("seed=0,1,2", *epochs)
    assert code == 0, output
    assert sweep.metrics() == again.metrics()


def test_a_machine_without_slurm_is_an_input_error(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, PATH=str(tmp_path))
    code, output = sweep.run("seed=0,1", "hydra/launcher=submitit_slurm")
    assert code == 2
    assert 'Could not detect "srun"' in output
    assert not sweep.records()
