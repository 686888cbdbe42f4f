"""The launchers of one machine, with real processes and real digits."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from sweeps import Sweep, processes

from hydra_plugins.stelab.joblib import GpuLauncher
from stelab.engine.errors import InputError
from stelab.engine.launchers.job import CPUS, Attempt, Outcome
from stelab.engine.launchers.processes import Processes, jobs_at_once
from stelab.engine.report.numbers import count_kinds
from waiting import PATIENCE, wait_until
from zygote import Fork, Zygote

SLOW = ("estimator.sleep=0.1", "trainer.max_epochs=1000")


@pytest.mark.parametrize(("slots", "share"), [(1, 6), (4, 1), (9, 1)])
def test_workers_share_the_processors(
    monkeypatch: pytest.MonkeyPatch, slots: int, share: int
) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 6)
    workers = Processes([{"OWN": str(slot)} for slot in range(slots)])
    workers.stop()
    environments = [seat.environment for seat in workers._seats]
    assert environments == [{CPUS: str(share), "OWN": str(slot)} for slot in range(slots)]


class Look(Attempt):
    """Tells in which process it is, and trains nothing."""

    def __call__(self, seat: Any = None) -> Outcome:
        return Outcome("finished", value=os.getpid())


def test_a_worker_that_dies_between_two_attempts_fails_the_second() -> None:
    attempt = Look(OmegaConf.create(), {"root": None})
    workers = Processes([{}, {}])

    def outcomes() -> list[Outcome]:
        futures = workers.start([attempt, attempt, attempt])
        while not all(future.done() for future in futures):
            workers.poll()
        return [future.result() for future in futures]

    try:
        first, second = (int(outcome.value or 0) for outcome in outcomes())
        os.kill(first, signal.SIGKILL)
        killed = Outcome("died", reason="its worker process was ended by signal 9 (SIGKILL)")
        assert outcomes() == [killed, Outcome("finished", value=second)]
        third, fourth = outcomes()
        assert third.value not in (first, second, None)
        assert fourth.value == second
    finally:
        workers.stop()
    for pid in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_every_launcher_makes_the_same_files_and_a_job_takes_its_share_of_the_threads(
    zygote: Zygote, tmp_path: Path
) -> None:
    alone = min(2, jobs_at_once(1))
    serial = Sweep(tmp_path / "serial", zygote=zygote)
    for seeds, threads in ("seed=0", alone), ("seed=1,2", 1):
        code, output = serial.run(seeds, f"threads={threads}", "hydra/launcher=serial")
        assert code == 0, output
    assert set(serial.metrics()) == {0, 1, 2}
    for launcher in ("joblib", "submitit_local"):
        sweep = Sweep(tmp_path / launcher, zygote=zygote)
        sweep.environment |= {"OMP_NUM_THREADS": "2", CPUS: "2"}  # one alone would take both
        for seeds in ("seed=0", "seed=1,2"):
            code, output = sweep.run(seeds, f"hydra/launcher={launcher}")
            assert code == 0, output
        taken = {seed: r["machine"]["threads"] for seed, r in sweep.records().items()}
        assert taken == {0: alone, 1: 1, 2: 1}
        assert sweep.metrics() == serial.metrics()


def test_a_killed_worker_is_one_failed_run_which_a_retry_finishes(
    zygote: Zygote, tmp_path: Path
) -> None:
    sweep = Sweep(tmp_path, zygote=zygote)
    command = (
        "seed=0,1,2",
        "hydra/launcher=joblib",
        "estimator.victim=1",
        "estimator.deaths=2",
    )
    code, output = sweep.run(*command)
    assert code == 1
    assert "its worker process was ended by signal 9 (SIGKILL)" in output
    assert "Traceback" not in output
    records = sweep.records()
    assert [records[seed]["status"] for seed in range(3)] == ["finished", "failed", "finished"]
    assert "SIGKILL" in records[1]["error"]

    code, output = sweep.run(*command, "retries=1")
    assert code == 0, output
    assert output.count("SIGKILL") == output.count("trying again") == 1
    assert output.count("(finished already: ") == 2
    assert {record["status"] for record in sweep.records().values()} == {"finished"}


def test_on_failure_stop(zygote: Zygote, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, zygote=zygote)
    code, output = sweep.run("seed=0,1", "on_failure=stop", "estimator.notes=nowhere")
    assert code == 1
    assert "failed: FileNotFoundError: " in output
    assert "(traceback: outputs/debug/probe-fixed0-s0-" in output
    assert "Traceback" not in output
    (record,) = sweep.records().values()
    assert "Traceback" in record["error"]


def test_gpus_that_are_not_there_are_an_input_error(zygote: Zygote, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, {"CUDA_VISIBLE_DEVICES": ""}, zygote=zygote)
    code, output = sweep.run("seed=0,1", "hydra/launcher=gpu")
    assert code == 2
    assert "hydra/launcher=gpu needs a GPU, and none is visible here" in output
    assert "Traceback" not in output
    assert not sweep.records()


def test_gpus_that_nobody_names_are_those_that_torch_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.device_count():
        pytest.skip("this machine has GPUs")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    launcher = GpuLauncher(devices="auto", per_device=1, retries=0, on_failure="continue")
    with pytest.raises(InputError, match="needs a GPU, and none is visible here"):
        launcher._executor(None)


def interrupt(process: subprocess.Popen[str] | Fork, name: str) -> None:
    if name == "Ctrl-C":  # which a terminal sends to all processes
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(getattr(signal, name))


@pytest.mark.parametrize(
    ("launcher", "name", "code", "workers"),
    [
        ("joblib", "SIGTERM", 128 + signal.SIGTERM, 2),
        ("joblib", "Ctrl-C", 128 + signal.SIGINT, 1),
        ("joblib", "SIGKILL", -signal.SIGKILL, 1),
        ("submitit_local", "SIGKILL", -signal.SIGKILL, 2),
    ],
)
def test_no_worker_outlives_its_driver(
    zygote: Zygote, tmp_path: Path, launcher: str, name: str, code: int, workers: int
) -> None:
    sweep = Sweep(tmp_path, zygote=zygote)
    options = (f"hydra/launcher={launcher}", "hydra.launcher.threads=1", *SLOW)
    at_once = min(workers, jobs_at_once(1))
    sweep.environment["LOKY_MAX_CPU_COUNT"] = str(at_once)
    with sweep.start("seed=0,1,2", *options) as driver:
        wait_until(lambda: sweep.seen() == set(range(at_once)))
        interrupt(driver, name)
        output = "".join(driver.communicate(timeout=PATIENCE))
        assert driver.returncode == code, output
        assert "Traceback" not in output
        left = count_kinds({"interrupted": at_once, "missing": 3 - at_once})
        assert output.count("missing") == int(name != "SIGKILL")
        assert (f"{left}; the same command continues\n" in output) == (name != "SIGKILL")
    wait_until(lambda: not processes(driver.pid))
    records = sweep.records()
    # Each has saved its state at the signal, and the third was not begun.
    assert {seed: r["status"] for seed, r in records.items()} == dict.fromkeys(
        range(at_once), "interrupted"
    )
