"""Attempts in worker processes of this machine, each of which may die alone."""

import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Literal

from stelab.engine.launchers.forks import ForkServer, Worker, fork_server
from stelab.engine.launchers.job import CPUS, Attempt, Outcome, serve
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
        self._server = fork_server()
        share = {CPUS: str(share_of_cpus(self.slots))}
        self._seats = [_Seat({**share, **environment}) for environment in environments]

    def start(self, attempts: Sequence[Attempt]) -> list[Future[Outcome]]:
        """Give attempts to idle workers."""
        idle = [seat for seat in self._seats if seat.outcome is None]
        pairs = zip(idle, attempts, strict=False)
        return [seat.start(attempt, self._server) for seat, attempt in pairs]

    def poll(self) -> None:
        """Resolve the futures of attempts that have ended."""
        for seat in self._seats:
            seat.poll(self._server)

    def stop(self) -> None:
        """Send SIGTERM to busy workers, and wait; a second interrupt kills them."""
        workers = [seat.worker for seat in self._seats if seat.worker is not None]
        busy = [seat.worker for seat in self._seats if seat.worker and seat.outcome]
        try:
            for worker in busy:
                os.kill(worker.pid, signal.SIGTERM)
            for worker in busy:
                worker.connection.poll(None)  # until it has an outcome, or has ended
            _end(workers, self._server)
        except BaseException:
            for worker in workers:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
            _end(workers, self._server)
            raise
        finally:
            for gpu in self._gpus:
                gpu.close()


class _Seat:
    """What a worker takes, and another one after its death."""

    def __init__(self, environment: Mapping[str, str]):
        self.environment = environment
        self.worker: Worker | None = None
        self.outcome: Future[Outcome] | None = None  # of the attempt that it runs

    def start(self, attempt: Attempt, server: ForkServer) -> Future[Outcome]:
        if self.worker is None:
            self.worker = server.fork(_train, {**os.environ, **self.environment})
        with suppress(OSError):  # it has died since; `poll` tells how
            self.worker.connection.send(attempt)
        self.outcome = Future[Outcome]()
        return self.outcome

    def poll(self, server: ForkServer) -> None:
        if self.worker is None or self.outcome is None or not self.worker.connection.poll():
            return
        try:
            outcome = self.worker.connection.recv()
        except (EOFError, OSError):
            self.worker.connection.close()
            how = _how(server.exit_code(self.worker))
            outcome = Outcome("died", reason=f"its worker process was ended {how}")
            self.worker = None
        self.outcome.set_result(outcome)
        self.outcome = None


def _train(connection: Connection) -> None:
    """Be a worker, until the driver is gone or needs it no more."""
    while True:
        connection.send(serve(connection.recv()))


def _end(workers: Sequence[Worker], server: ForkServer) -> None:
    for worker in workers:
        worker.connection.close()
    server.close()


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    names = {int(number): f" ({number.name})" for number in signal.Signals}
    return f"by signal {-code}{names.get(-code, '')}"


def jobs_at_once(threads: int | Literal["auto"]) -> int:
    """Return how many jobs of so many threads (auto: one) this machine takes; at least 1."""
    return share_of_cpus(1 if threads == "auto" else threads)


def share_of_cpus(parts: int) -> int:
    """Return how many of the processors that this process may use one of so many parts has."""
    from joblib import cpu_count

    return max(1, cpu_count() // parts)
