"""An attempt at a job, how it ended, and what runs attempts."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Literal, Protocol

from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf

from stelab.engine.errors import InputError
from stelab.engine.project import project
from stelab.engine.studies.record import Pruned, Run

# Joblib's variable: how many processors a process may use, whatever the machine has.
CPUS = "LOKY_MAX_CPU_COUNT"

_abandoned = threading.Event()


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended; plain, because an exception may not survive pickling.

    ``"refused"`` is bad input, so that trying again is useless; ``"died"``: its process ended
    without a result; ``"lost"``: the same through no fault of its own, with its machine.
    """

    status: Literal["finished", "failed", "refused", "pruned", "died", "lost"]
    value: float | None = None  # the monitored metric of a finished run
    summary: str = ""  # losses and duration of a finished run
    reason: str = ""  # the last line of the error of any other


@dataclass(frozen=True)
class Attempt:
    """Trains a run, once; nothing is trained where it was just found `finished`."""

    cfg: DictConfig
    logging: dict[str, Any]  # `hydra.job_logging`, for a process of its own
    finished: Run | None = None

    def __call__(self, seat: Any = None) -> Outcome:
        """Train in this process; what is no `Exception`, such as a signal, ends the process.

        Args:
            seat: Among runs that train together, see `Project.train_stacked`.
        """
        try:
            value, summary = resolve_name(project().train)(self.cfg, self.finished, seat)
            return Outcome("finished", value=value, summary=summary)
        except Pruned as error:
            return Outcome("pruned", reason=str(error))
        except InputError as error:
            return Outcome("refused", reason=str(error))
        except Exception as error:
            return Outcome("failed", reason=_last_line(error))


class Executor(Protocol):
    """Runs attempts."""

    interval: float  # seconds between two polls while attempts end
    patience: float  # the same once none has ended for long

    @property
    def slots(self) -> int | None:
        """How many attempts it takes at once; None: all."""

    def start(self, attempts: Sequence[Attempt]) -> list[Future[Outcome]]:
        """Start attempts in free slots, maybe not all; InputError if none can ever start."""

    def poll(self) -> None:
        """Resolve the futures of all attempts that have ended."""

    def stop(self) -> None:
        """Let attempts under way save their state, wait for them, and end all workers."""


class InThisProcess:
    """Runs an attempt while it is started; the run itself handles signals."""

    slots = 1
    interval = patience = 0.0

    def start(self, attempts: Sequence[Attempt]) -> list[Future[Outcome]]:
        """Run attempts to their end."""
        futures = [Future[Outcome]() for _ in attempts]
        for future, attempt in zip(futures, attempts, strict=True):
            future.set_result(attempt())
        return futures

    def poll(self) -> None:
        """Do nothing: all attempts have ended."""

    stop = poll


def run_alone(attempt: Attempt, *, cpus: int | None = None) -> Outcome:
    """Train in a process that exists for jobs alone, on so many processors if that is known."""
    if cpus is not None:
        os.environ[CPUS] = str(cpus)
    configure_log(OmegaConf.create(attempt.logging))
    return attempt()


def serve(attempt: Attempt) -> Outcome:
    """Train in a worker process, which goes on to serve others."""
    try:
        return run_alone(attempt)
    except BaseException as error:  # a signal to this worker alone; the run's state is saved
        return Outcome("died", reason=f"its worker process was stopped: {_last_line(error)}")
    finally:
        if _abandoned.is_set():
            os._exit(128 + signal.SIGTERM)


def follow(alive: Callable[[], bool]) -> None:
    """Send this process SIGTERM, which saves a run in it, once its driver is no longer alive."""

    def watch() -> None:
        while alive():
            time.sleep(0.5)
        _abandoned.set()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
