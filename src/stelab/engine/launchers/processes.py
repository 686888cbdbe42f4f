"""Jobs in worker processes of this machine, each of which may die alone."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import suppress
from typing import Any

from stelab.engine.launchers.executor import Started
from stelab.engine.launchers.job import Attempt, Outcome, follow, serve


class Processes:
    """One worker process a slot, which takes one job after another.

    Args:
        environments: Environment variables of each slot's worker.
    """

    interval = patience = 0.02

    def __init__(self, environments: Sequence[Mapping[str, str]]):
        self._slots = [_Slot(environment) for environment in environments]

    @property
    def slots(self) -> int:
        """How many jobs it takes at once."""
        return len(self._slots)

    def start(self, attempts: Sequence[Attempt]) -> list[Started]:
        """Give jobs to idle workers."""
        idle = [slot for slot in self._slots if not slot.busy]
        return [slot.start(attempt) for slot, attempt in zip(idle, attempts, strict=False)]

    def look(self) -> None:
        """Do nothing: a thread of each worker's pool tells."""

    def stop(self) -> None:
        """Send SIGTERM to busy workers, and wait; a second interrupt kills them."""
        for slot in self._slots:
            slot.terminate()
        try:
            for slot in self._slots:
                slot.end()
        except BaseException:
            for slot in self._slots:
                slot.end(kill=True)
            raise


class _Slot:
    """A pool of a single worker: one that dies breaks no other's."""

    def __init__(self, environment: Mapping[str, str]):
        self._environment = dict(environment)
        self._pool = self._new()
        self._job: _Started | None = None

    @property
    def busy(self) -> bool:
        return self._job is not None and not self._job.done()

    def start(self, attempt: Attempt) -> _Started:
        if self._job is not None and self._job.broke:
            self._pool = self._new()
        self._job = _Started(self._pool.submit(serve, attempt))
        return self._job

    def terminate(self) -> None:
        if self.busy:
            for pid in list(self._pool._processes):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def end(self, *, kill: bool = False) -> None:
        self._pool.shutdown(wait=True, kill_workers=kill)

    def _new(self) -> Any:
        from joblib.externals.loky import ProcessPoolExecutor

        return ProcessPoolExecutor(
            max_workers=1,
            env=self._environment,
            initializer=begin,
            initargs=(os.getpid(),),
        )


class _Started:
    def __init__(self, future: Future[Outcome]):
        self._future = future

    @property
    def broke(self) -> bool:
        return isinstance(self._future.exception(), BrokenExecutor)

    def done(self) -> bool:
        return self._future.done()

    def result(self) -> Outcome:
        try:
            return self._future.result()
        except BrokenExecutor as error:
            return Outcome("died", reason=_explain(error))


def begin(driver: int) -> None:
    """Prepare a worker process: it ends with its driver, which Ctrl-C is for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow(lambda: os.getppid() == driver)


def _explain(error: BaseException) -> str:
    """Tell what killed a worker, from loky's ``{SIGKILL(-9)}``."""
    found = re.search(r"\{(\w+)\((-?\d+)\)", str(error))
    if found is None:
        return f"its worker process died: {str(error).splitlines()[0]}"
    name, code = found[1], int(found[2])
    how = f"by signal {-code} ({name})" if code < 0 else f"with exit code {code}"
    return f"its worker process was ended {how}"


def jobs_at_once(threads: int) -> int:
    """Return how many jobs of so many threads this machine's processors take; at least 1."""
    from joblib import cpu_count

    return max(1, cpu_count() // threads)
