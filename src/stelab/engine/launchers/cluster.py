"""Jobs as tasks of a Ray cluster whose nodes share the file system and the Python environment."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stelab.engine.errors import InputError
from stelab.engine.launchers.executor import Started
from stelab.engine.launchers.job import Attempt, Outcome, run_alone
from stelab.engine.terminal import brief

if TYPE_CHECKING:
    from ray import ObjectRef


_GPUS = "CUDA_VISIBLE_DEVICES"


class RayTasks:
    """Runs each job as a task of its own, in worker processes that serve one after another.

    A cluster that grows is shown that more is wanted than it has: twice as many jobs as it takes
    now, and one where it takes none. All of them at once would leave a search nothing to learn.

    Args:
        address: Of a cluster; None: start one on this machine, for this sweep.
        num_cpus: What a job takes.
        num_gpus: What a job takes; 0.5: two jobs share a GPU.

    Raises:
        InputError: There is no cluster, or none of its nodes has, or ever will have, what a job
            takes.
    """

    interval = 0.1
    patience = 2.0

    def __init__(self, *, address: str | None, num_cpus: int, num_gpus: float):
        # Ray would report usage to its makers, and write a token into the home folder.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        import ray

        self._address = address
        self._needs = {"CPU": num_cpus, "GPU": num_gpus}
        self._running: list[_Started] = []
        self._had_room = self._told = False
        _connect(address)
        # Retries are the launcher's. Ray would end a worker that has GPUs after each call.
        self._task = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=0, max_calls=0)(
            _work
        )
        try:
            self._look_for_room()
        except InputError:
            ray.shutdown()
            raise

    @property
    def slots(self) -> int:
        """How many jobs it takes at once; at least 1, for a node to come."""
        room = self._room()
        return max(1, room if self._grows() is False else 2 * room)

    def start(self, attempts: Sequence[Attempt]) -> list[Started]:
        """Submit tasks."""
        started = [
            _Started(self._task.remote(attempt, os.getcwd(), sys.path)) for attempt in attempts
        ]
        self._running += started
        return [*started]

    def look(self) -> None:
        """Find out which tasks have ended, at once for all.

        Raises:
            InputError: There never was a node for them, and none will come.
        """
        import ray

        self._look_for_room()
        tasks = {job.task: job for job in self._running}
        if tasks:
            for task in ray.wait([*tasks], num_returns=len(tasks), timeout=0)[0]:
                tasks[task].ended = True
        self._running = [job for job in self._running if not job.ended]

    def stop(self) -> None:
        """Interrupt tasks under way, wait for them, and leave the cluster."""
        import ray

        running = [job.task for job in self._running]
        for task in running:
            ray.cancel(task)
        if running:
            ray.wait(running, num_returns=len(running))
        ray.shutdown()

    def _look_for_room(self) -> None:
        """Refuse what cannot be had; say so where a node has to come first."""
        self._had_room = self._had_room or self._room() > 0
        if self._had_room:
            return
        missing = (
            "no node of the Ray cluster has what a job takes: "
            f"num_cpus={self._needs['CPU']} (threads), num_gpus={self._needs['GPU']:g}"
        )
        if self._grows() is False:
            raise InputError(missing)
        if not self._told:
            print(f"{missing}: waiting for one to come", file=sys.stderr, flush=True)
        self._told = True

    def _room(self) -> int:
        import ray

        needs = {name: amount for name, amount in self._needs.items() if amount}
        return sum(
            min(int(node["Resources"].get(name, 0) // amount) for name, amount in needs.items())
            for node in ray.nodes()
            if node["Alive"]
        )

    def _grows(self) -> bool | None:
        """Tell whether the cluster has an autoscaler; None while it has not said.

        One whose nodes were added by hand reports each of them as a type of its own.
        """
        import ray
        from ray.experimental.internal_kv import _internal_kv_get

        if self._address is None:
            return False
        report = json.loads(_internal_kv_get(b"__autoscaling_status") or "{}")
        types = (report.get("autoscaler_report") or {}).get("node_type_mapping") or {}
        by_hand = {f"node_{node['NodeID']}" for node in ray.nodes()}
        return not by_hand.issuperset(types.values()) if types else None


class _Started:
    def __init__(self, task: ObjectRef[Outcome]):
        self.task = task
        self.ended = False

    def done(self) -> bool:
        return self.ended

    def result(self) -> Outcome:
        import ray
        from ray.exceptions import NodeDiedError, ObjectLostError, RayError

        try:
            return ray.get(self.task)
        except (NodeDiedError, ObjectLostError) as error:
            return Outcome("lost", reason=_first_sentence(error))
        except RayError as error:
            if _left(self.task.task_id().hex()):
                return Outcome("lost", reason="its worker process had other GPUs before")
            return Outcome("died", reason=_first_sentence(error))


_own: dict[str, str] = {}


def _work(attempt: Attempt, folder: str, path: list[str]) -> Outcome:
    """Run a job where relative paths and imports mean what they mean in the driver."""
    # CUDA looks only once at which GPUs a process has; Ray may give it others the next time.
    gpus = os.environ.get(_GPUS, "")
    if _own.setdefault(_GPUS, gpus) != gpus:
        _leave()
    os.chdir(folder)
    sys.path.extend(entry for entry in path if entry not in sys.path)
    return run_alone(attempt)


def _leave() -> None:
    """End this worker process, which is no death of the task: another process will take it."""
    import ray
    from ray.experimental.internal_kv import _internal_kv_put

    # What a task's exception says does not depend on how its process ended.
    _internal_kv_put(_left_key(ray.get_runtime_context().get_task_id()), b"")
    sys.exit()


def _left(task: str) -> bool:
    """Tell whether the process of a task left it."""
    from ray.experimental.internal_kv import _internal_kv_exists

    return bool(_internal_kv_exists(_left_key(task)))


def _left_key(task: str | None) -> bytes:
    return f"stelab: left {task}".encode()


def _connect(address: str | None) -> None:
    import ray

    options: dict[str, Any] = {} if address else {"include_dashboard": False}
    try:
        if address and (parts := re.fullmatch(r"([^:]+):(\d+)", address)):
            # Ray itself would try for minutes.
            socket.create_connection((parts[1], int(parts[2])), timeout=10).close()
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **options,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"hydra.launcher.address={address}: {brief(error)}") from error


def _first_sentence(error: Exception) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()  # Ray colours some of it
    return f"{type(error).__name__}: {text.splitlines()[0].split('. ')[0]}"
