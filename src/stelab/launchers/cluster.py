"""Jobs as tasks of a Ray cluster whose nodes share the file system and the Python environment."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stelab.errors import InputError
from stelab.launchers.executor import Started
from stelab.launchers.job import Attempt, Outcome, run_alone

if TYPE_CHECKING:
    from ray import ObjectRef


class RayTasks:
    """Runs each job as a task of its own.

    Args:
        address: Of a cluster; None: start one on this machine, for this sweep.
        num_cpus: What a job takes.
        num_gpus: What a job takes; 0.5: two jobs share a GPU.

    Raises:
        InputError: There is no cluster, or none of its nodes has what a job takes.
    """

    interval = 0.1
    tells = False

    def __init__(self, *, address: str | None, num_cpus: int, num_gpus: float):
        # Ray would report usage to its makers, and write a token into the home folder.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        import ray

        self._needs = {"CPU": num_cpus, "GPU": num_gpus}
        self._running: list[_Started] = []
        _connect(address)
        # Retries are the launcher's.
        self._task = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=0)(_work)
        if not self._room():
            ray.shutdown()
            raise InputError(
                f"no node of the Ray cluster has what a job takes: num_cpus={num_cpus} (threads), "
                f"num_gpus={num_gpus:g}"
            )

    @property
    def slots(self) -> int:
        """How many jobs the nodes that are alive take at once; at least 1, for one to come."""
        return max(1, self._room())

    def start(self, attempts: Sequence[Attempt]) -> list[Started]:
        """Submit tasks."""
        started = [
            _Started(self._task.remote(attempt, os.getcwd(), sys.path)) for attempt in attempts
        ]
        self._running = [job for job in self._running if not job.done()] + started
        return [*started]

    def stop(self) -> None:
        """Interrupt tasks under way, wait for them, and leave the cluster."""
        import ray

        running = [job.task for job in self._running if not job.done()]
        for task in running:
            ray.cancel(task)
        if running:
            ray.wait(running, num_returns=len(running))
        ray.shutdown()

    def _room(self) -> int:
        import ray

        needs = {name: amount for name, amount in self._needs.items() if amount}
        return sum(
            min(int(node["Resources"].get(name, 0) // amount) for name, amount in needs.items())
            for node in ray.nodes()
            if node["Alive"]
        )


class _Started:
    def __init__(self, task: ObjectRef[Outcome]):
        self.task = task

    def done(self) -> bool:
        import ray

        return bool(ray.wait([self.task], timeout=0)[0])

    def result(self) -> Outcome:
        import ray
        from ray.exceptions import NodeDiedError, ObjectLostError, RayError

        try:
            return ray.get(self.task)
        except (NodeDiedError, ObjectLostError) as error:
            return Outcome("lost", reason=_first_sentence(error))
        except RayError as error:
            return Outcome("died", reason=_first_sentence(error))


def _work(attempt: Attempt, folder: str, path: list[str]) -> Outcome:
    """Run a job where relative paths and imports mean what they mean in the driver."""
    os.chdir(folder)
    sys.path.extend(entry for entry in path if entry not in sys.path)
    return run_alone(attempt)


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
    except (OSError, ValueError) as error:
        raise InputError(f"hydra.launcher.address={address}: {error}") from error


def _first_sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0].split('. ')[0]}"
