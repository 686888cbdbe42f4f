"""``hydra/launcher=ray`` on real clusters: one loses a node, one grows from none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sweeps import Sweep, processes

from waiting import PATIENCE, wait_until
from zygote import Zygote

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}


@contextmanager
def cluster(sweep: Sweep, kind: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start a cluster, and end all of it."""
    script = Path(__file__).with_name("ray_cluster.py")
    with subprocess.Popen(
        [sys.executable, str(script), kind],
        env=sweep.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip(), process
        finally:
            for pid in {int(line.split()[1]) for line in processes(process.pid)} - {process.pid}:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def test_a_cluster_that_grows_is_waited_for_and_a_worker_with_gpus_is_kept(
    zygote: Zygote, tmp_path: Path
) -> None:
    quick = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    sweep = Sweep(tmp_path, ENVIRONMENT | quick, zygote=zygote)
    with cluster(sweep, "growing") as (address, _):
        options = (f"hydra.launcher.address={address}", "hydra.launcher.num_gpus=1")
        code, output = sweep.run("seed=0,1,2", "hydra/launcher=ray", *options)
    assert code == 0, output
    assert output.count("no node of the Ray cluster has what a job takes") == 1
    assert "num_cpus=1 (threads), num_gpus=1: waiting for one to come" in output
    assert sweep.seen() == {0, 1, 2}
    assert len({note.name.split("-")[1] for note in sweep.notes.iterdir()}) == 1  # one process


NOWHERE = """
from stelab.engine.errors import InputError
from stelab.engine.launchers.cluster import RayTasks
try:
    RayTasks(address="127.0.0.1:1", num_cpus=1, num_gpus=0)
except InputError as error:
    print(error)
"""


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path) -> None:
    environment = {**os.environ, **ENVIRONMENT}
    command = [sys.executable, "-c", NOWHERE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("hydra.launcher.address=127.0.0.1:1: "), done.stderr
    assert "refused" in done.stdout and len(done.stdout.splitlines()) == 1


OTHER_GPUS = """
import os, sys
import ray
from stelab.engine.launchers import cluster
from stelab.engine.launchers.job import Outcome

class Attempt:
    logging = {"root": None}

    def __call__(self):
        return Outcome("finished", value=os.getpid())

def change():
    cluster._first_given[cluster._GPUS] = "5"

tasks = cluster.RayTasks(address=None, num_cpus=1, num_gpus=0)
task = ray.remote(num_cpus=1, max_retries=0, max_calls=0)
tasks._task = task(cluster._work)
for between in (None, None, change, None):
    if between:
        ray.get(task(between).remote())
    (started,) = tasks.start([Attempt()])
    while not started.done():
        tasks.poll()
    outcome = started.result()
    print("outcome", outcome.status, outcome.value)
tasks.stop()
"""


def test_a_worker_that_is_given_other_gpus_leaves_the_job_to_another(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OTHER_GPUS]
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    lines = (line.split() for line in done.stdout.splitlines() if line.startswith("outcome"))
    outcomes = [(status, process) for _, status, process in lines]
    assert [status for status, _ in outcomes] == ["finished", "finished", "lost", "finished"]
    assert outcomes[0] == outcomes[1] != outcomes[3]  # one process, then another


def test_a_lost_node_costs_no_run(zygote: Zygote, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, ENVIRONMENT, zygote=zygote)
    epochs = ("trainer.max_epochs=10", "checkpoint.every_n_steps=1")
    slow = ("estimator.sleep=0.2", *epochs)
    with cluster(sweep, "two") as (address, nodes):
        ray = ("hydra/launcher=ray", f"hydra.launcher.address={address}")
        code, output = sweep.run("seed=0", *ray, "hydra.launcher.num_gpus=1")
        assert code == 2, output
        assert "no node of the Ray cluster has what a job takes" in output
        assert "Traceback" not in output and not sweep.records()
        with sweep.start("seed=0,1,2", *ray, *slow) as driver:
            wait_until(lambda: sweep.seen() == {0, 1})
            assert nodes.stdin
            nodes.stdin.write("remove\n")
            nodes.stdin.flush()
            output = "".join(driver.communicate(timeout=PATIENCE))
        nodes.stdin.close()
        assert driver.returncode == 0, output
        assert output.count("lost: NodeDiedError") == output.count("trying again") == 1
        records = sweep.records()
        assert {seed: r["status"] for seed, r in records.items()} == dict.fromkeys(
            range(3), "finished"
        )
        # Without retries, the run of the lost node was trained by two processes.
        assert sorted(len({*sweep.notes.glob(f"{seed}-*")}) for seed in range(3)) == [1, 1, 2]
    again = Sweep(tmp_path / "undisturbed", zygote=zygote)
    code, output = again.run("seed=0,1,2", *epochs)
    assert code == 0, output
    assert sweep.metrics() == again.metrics()


def test_sigterm_stops_its_tasks_and_leaves_nothing(zygote: Zygote, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, zygote=zygote)
    slow = ("estimator.sleep=0.1", "trainer.max_epochs=1000")
    with sweep.start("seed=0,1", "hydra/launcher=ray", *slow) as driver:
        wait_until(lambda: bool(sweep.seen()))
        driver.send_signal(signal.SIGTERM)
        output = "".join(driver.communicate(timeout=PATIENCE))
        assert driver.returncode == 128 + signal.SIGTERM, output
        assert "Traceback" not in output
    wait_until(lambda: not processes(driver.pid))
    assert {r["status"] for r in sweep.records().values()} == {"interrupted"}
