"""Attempts as tasks of a Ray cluster whose nodes share the file system and the environment."""

import json
import logging
import os
import re
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import NodeDiedError, ObjectLostError, RayError
from ray.experimental.internal_kv import _internal_kv_exists, _internal_kv_get, _internal_kv_put

from stelab.engine.errors import InputError
from stelab.engine.launchers.job import Attempt, Outcome, run_alone
from stelab.engine.terminal import brief

_GPUS = "CUDA_VISIBLE_DEVICES"


class RayTasks:
    """Runs each attempt as a task of its own, in worker processes that serve one after another.

    A cluster that grows is shown that more is wanted than it has: twice as many jobs as it takes
    now, and one where it takes none. All of them at once would leave a search nothing to learn.
    Without an address, a cluster of this machine is started for this sweep.
    """

    interval = 0.1
    patience = 2.0

    def __init__(self, *, address: str | None, num_cpus: int, num_gpus: float):
        self._address = address
        self._needs = {"CPU": num_cpus, "GPU": num_gpus}
        self._running: dict[ObjectRef[Outcome], Future[Outcome]] = {}
        self._had_room = self._is_reported = False
        options: dict[str, Any] = {} if address else {"include_dashboard": False}
        try:
            if address and (parts := re.fullmatch(r"([^:]+):(\d+)", address)):
                # Ray itself would try for minutes.
                socket.create_connection((parts[1], int(parts[2])), timeout=10).close()
            options |= {"log_to_driver": False, "logging_level": logging.ERROR}
            ray.init(address=address or "local", **options)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"hydra.launcher.address={address}: {brief(error)}") from error
        # Retries are the launcher's. Ray would end a worker that has GPUs after each call.
        options = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_retries": 0, "max_calls": 0}
        self._task = ray.remote(**options)(_work)
        try:
            self._require_room()
        except InputError:
            ray.shutdown()
            raise

    @property
    def slots(self) -> int:
        """How many jobs it takes at once; at least 1, for a node to come."""
        room = self._room()
        return max(1, room if self._grows() is False else 2 * room)

    def start(self, attempts: Sequence[Attempt]) -> list[Future[Outcome]]:
        """Submit tasks."""
        cpus = int(self._needs["CPU"])
        tasks = {
            self._task.remote(attempt, os.getcwd(), sys.path, cpus): Future[Outcome]()
            for attempt in attempts
        }
        self._running |= tasks
        return [*tasks.values()]

    def poll(self) -> None:
        """Resolve the futures of tasks that have ended."""
        self._require_room()
        tasks = [*self._running]
        ended = ray.wait(tasks, num_returns=len(tasks), timeout=0)[0] if tasks else []
        for task in ended:
            self._running.pop(task).set_result(_outcome_of(task))

    def stop(self) -> None:
        """Interrupt tasks under way, wait for them, and leave the cluster."""
        tasks = [*self._running]
        for task in tasks:
            ray.cancel(task)
        if tasks:
            ray.wait(tasks, num_returns=len(tasks))
        ray.shutdown()

    def _require_room(self) -> None:
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
        if not self._is_reported:
            print(f"{missing}: waiting for one to come", file=sys.stderr, flush=True)
        self._is_reported = True

    def _room(self) -> int:
        needs = {name: amount for name, amount in self._needs.items() if amount}
        return sum(
            min(int(node["Resources"].get(name, 0) // amount) for name, amount in needs.items())
            for node in ray.nodes()
            if node["Alive"]
        )

    def _grows(self) -> bool | None:
        """Return whether the cluster has an autoscaler; None while it has not said."""
        if self._address is None:
            return False
        report = json.loads(_internal_kv_get(b"__autoscaling_status") or "{}")
        types = (report.get("autoscaler_report") or {}).get("node_type_mapping") or {}
        # A node that was added by hand is reported as a type of its own.
        by_hand = {f"node_{node['NodeID']}" for node in ray.nodes()}
        return not by_hand.issuperset(types.values()) if types else None


def _outcome_of(task: ObjectRef[Outcome]) -> Outcome:
    try:
        return ray.get(task)
    except RayError as error:
        text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()  # Ray colours some of it
        reason = f"{type(error).__name__}: {text.splitlines()[0].split('. ')[0]}"
        if isinstance(error, NodeDiedError | ObjectLostError):
            return Outcome("lost", reason=reason)
        if _internal_kv_exists(_left_key(task.task_id().hex())):
            return Outcome("lost", reason="its worker process had other GPUs before")
        return Outcome("died", reason=reason)


_first_given: dict[str, str] = {}


def _work(attempt: Attempt, folder: str, path: list[str], cpus: int) -> Outcome:
    """Train where relative paths and imports mean what they mean in the driver."""
    # CUDA looks only once at which GPUs a process has; Ray may give it others the next time.
    gpus = os.environ.get(_GPUS, "")
    if _first_given.setdefault(_GPUS, gpus) != gpus:
        # No death of the task, which another process will take; and what its exception says does
        # not depend on how its process ended.
        _internal_kv_put(_left_key(ray.get_runtime_context().get_task_id()), b"")
        sys.exit()
    os.chdir(folder)
    sys.path.extend(entry for entry in path if entry not in sys.path)
    return run_alone(attempt, cpus=cpus)


def _left_key(task: str | None) -> bytes:
    """Return the key that says, in Ray's store, that the process of a task left it."""
    return f"stelab: left {task}".encode()
