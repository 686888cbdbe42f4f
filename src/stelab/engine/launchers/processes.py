"""Attempts in worker processes of this machine, each of which may die alone."""

import os
import re
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import suppress
from functools import partial
from typing import Literal

from stelab.engine.launchers.job import CPUS, Attempt, Outcome, follow, serve
from stelab.engine.launchers.mps import SharedGpu


class Processes:
    """One worker process for each environment, which runs one attempt after another.

    Args:
        environments: Variables of a worker, added to those of this process.
        gpus: What the environments share, and nobody needs after the workers have ended.
    """

    interval = patience = 0.02

    def __init__(
        self, environments: Sequence[Mapping[str, str]], *, gpus: Sequence[SharedGpu] = ()
    ):
        self.slots = len(environments)
        self._gpus = gpus
        share = {CPUS: str(share_of_cpus(self.slots))}
        self._workers = [_Worker({**share, **environment}) for environment in environments]

    def start(self, attempts: Sequence[Attempt]) -> list[Future[Outcome]]:
        """Give attempts to idle workers."""
        idle = [worker for worker in self._workers if worker.call is None]
        return [worker.start(attempt) for worker, attempt in zip(idle, attempts, strict=False)]

    def poll(self) -> None:
        """Resolve the futures of attempts that have ended."""
        for worker in self._workers:
            worker.poll()

    def stop(self) -> None:
        """Send SIGTERM to busy workers, and wait; a second interrupt kills them."""
        busy = [w for w in self._workers if w.call is not None and not w.call.done()]
        for pid in [pid for worker in busy for pid in worker.pool._processes]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        try:
            for worker in self._workers:
                worker.pool.shutdown(wait=True)
        except BaseException:
            for worker in self._workers:
                worker.pool.shutdown(wait=True, kill_workers=True)
            raise
        finally:
            for gpu in self._gpus:
                gpu.close()


class _Worker:
    """A pool of a single process: one that dies breaks no other's."""

    def __init__(self, environment: Mapping[str, str]):
        from joblib.externals.loky import ProcessPoolExecutor

        options = {"env": dict(environment), "initializer": begin, "initargs": (os.getpid(),)}
        self._new_pool = partial(ProcessPoolExecutor, max_workers=1, **options)
        self.pool = self._new_pool()
        self.call: Future[Outcome] | None = None  # the attempt that it runs, as its pool has it

    def start(self, attempt: Attempt) -> Future[Outcome]:
        self.call = self.pool.submit(serve, attempt)
        self._outcome = Future[Outcome]()
        return self._outcome

    def poll(self) -> None:
        if self.call is None or not self.call.done():
            return
        call, self.call = self.call, None
        try:
            self._outcome.set_result(call.result())
        except BrokenExecutor as error:
            self.pool = self._new_pool()
            reason = f"its worker process died: {str(error).splitlines()[0]}"
            if match := re.search(r"\{(\w+)\((-?\d+)\)", str(error)):  # loky's {SIGKILL(-9)}
                name, code = match[1], int(match[2])
                how = f"by signal {-code} ({name})" if code < 0 else f"with exit code {code}"
                reason = f"its worker process was ended {how}"
            self._outcome.set_result(Outcome("died", reason=reason))


def begin(driver: int) -> None:
    """Prepare a worker process: it ends with its driver, which Ctrl-C is for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow(lambda: os.getppid() == driver)


def jobs_at_once(threads: int | Literal["auto"]) -> int:
    """Return how many jobs of so many threads (auto: one) this machine takes; at least 1."""
    return share_of_cpus(1 if threads == "auto" else threads)


def share_of_cpus(parts: int) -> int:
    """Return how many of the processors that this process may use one of so many parts has."""
    from joblib import cpu_count

    return max(1, cpu_count() // parts)
