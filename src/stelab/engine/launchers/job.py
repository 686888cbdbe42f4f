"""One job in the process that runs it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from stelab.engine.errors import InputError
from stelab.engine.project import load, project
from stelab.engine.studies.record import Pruned, Run

_abandoned = threading.Event()


@dataclass(frozen=True)
class Outcome:
    """How a job ended; plain, because an exception may not survive pickling.

    Attributes:
        status: ``"refused"``: bad input, so that trying again is useless; ``"died"``: its process
            ended without a result; ``"lost"``: through no fault of its own, with its machine.
        value: The monitored metric of a finished run.
        told: Its losses and how long it took.
        reason: The last line of the error of any other.
    """

    status: Literal["finished", "failed", "refused", "pruned", "died", "lost"]
    value: float | None = None
    told: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Attempt:
    """Train a run, once.

    Attributes:
        cfg: Its configuration, composed and checked.
        logging: `hydra.job_logging`, for a process of its own.
        finished: Its run, where that was just found finished: nothing is trained.
    """

    cfg: DictConfig
    logging: dict[str, Any]
    finished: Run | None = None

    def __call__(self) -> Outcome:
        """Train in this process; what is no `Exception`, such as a signal, ends the process."""
        try:
            value, told = load(project().train)(self.cfg, self.finished)
            return Outcome("finished", value=value, told=told)
        except Pruned as error:
            return Outcome("pruned", reason=str(error))
        except InputError as error:
            return Outcome("refused", reason=str(error))
        except Exception as error:
            return Outcome("failed", reason=_last_line(error))


def run_alone(attempt: Attempt) -> Outcome:
    """Train in a process that is there for jobs alone."""
    from hydra.core.utils import configure_log

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
    """Let this process end, and a run in it be saved, once its driver is not alive any more."""
    threading.Thread(target=_watch, args=(alive,), daemon=True).start()


def _watch(alive: Callable[[], bool]) -> None:
    while alive():
        time.sleep(0.5)
    _abandoned.set()
    os.kill(os.getpid(), signal.SIGTERM)


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
