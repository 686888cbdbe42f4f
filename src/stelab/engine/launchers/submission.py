"""Jobs submitted with submitit: to SLURM, or the same way to processes of this machine."""

from __future__ import annotations

import fcntl
import io
import os
import re
import signal
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from stelab.engine.errors import InputError
from stelab.engine.launchers.executor import Started
from stelab.engine.launchers.job import Attempt, Outcome, follow, run_alone

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job
    from submitit.helpers import DelayedSubmission

_FOREVER = 1_000_000  # times that a job may be requeued at its time limit
_UNTAKEN = r"[0-9a-f]{32}\.pkl|\.submission_file_[0-9a-f]{32}\.sh"


class Refused(Exception):
    """Jobs were not taken, now or ever: the message is the reason."""


class Submitted(ABC):
    """Submits jobs as they come; those that come together become job arrays on SLURM.

    Where jobs are refused, fewer are submitted together, down to a single one. What was taken
    runs; of the rest some are tried again at each look, more when they are taken.

    Args:
        folder: Where submitit keeps its files and what jobs print, in a folder for this sweep.
        parameters: What jobs need, as submitit calls it.
        driver: The name of a file there that is locked while the process lives that jobs end
            with; None: they outlive it.

    Attributes:
        place: What it is called.
        largest: How many jobs may be submitted together.

    Raises:
        InputError: submitit refuses the parameters, or the folder cannot be made.
    """

    cluster: str
    place: str
    interval = 0.2
    patience: float
    largest = 1

    def __init__(self, folder: Path, parameters: dict[str, Any], *, driver: str | None):
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
        self.folder = (folder / name).absolute()
        self._executor = self._make(parameters)
        self._driver = self.folder / driver if driver else None
        self._jobs: list[_Started] = []
        self._size = self.largest
        self._accepted = self._full = False
        self._told: str | None = None

    def _make(self, parameters: dict[str, Any]) -> AutoExecutor:
        from submitit import AutoExecutor

        try:
            self.folder.mkdir(parents=True)
            executor = AutoExecutor(
                self.folder, cluster=self.cluster, slurm_max_num_timeout=_FOREVER
            )
            executor.update_parameters(**parameters)
        except (RuntimeError, NameError, ValueError, AssertionError) as error:
            raise InputError(f"submitit refuses hydra.launcher: {error}") from error
        except OSError as error:
            raise InputError(f"{self.folder} cannot be made: {error}") from error
        return executor

    @property
    def slots(self) -> int | None:
        """How many jobs it takes at once: all; once it refused some, a few more than it has."""
        return len(self._jobs) + self._size if self._full else None

    def start(self, attempts: Sequence[Attempt]) -> list[Started]:
        """Submit jobs.

        Returns:
            Those that were taken, in their order: maybe not all.

        Raises:
            InputError: Not even the first one ever was.
        """
        started: list[Started] = []
        refused = False
        while rest := attempts[len(started) :]:
            chunk = rest[: self._size]
            share = (len(started), len(started) + len(chunk), len(attempts))
            try:
                jobs = self._submit([Call(attempt, self._driver) for attempt in chunk], share)
            except Refused as error:
                refused = True
                self._size = max(1, len(chunk) // 2)
                if len(chunk) == 1:
                    self._wait_for_room(str(error), waiting=len(rest))
                    break
            else:
                self._accepted = True
                self._jobs += (taken := [_Started(self, job) for job in jobs])
                started += taken
                if not refused:
                    self._size = min(2 * self._size, self.largest)
        return started

    def _submit(self, calls: Sequence[Call], share: tuple[int, int, int]) -> list[Job[Outcome]]:
        """Submit jobs together.

        Args:
            calls: The jobs.
            share: Of all that are started now, their begin, their end, and the number.

        Raises:
            Refused: None of them was taken.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        # A job ends at SIGTERM; of Ctrl-C, which goes to all processes, submitit's own would die.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with redirect_stderr(io.StringIO()):  # where submitit prints what it raises, too
                return self._executor.submit_array(calls)
        except OSError as error:
            self._remove_untaken()
            raise Refused(f"{error.filename or self.folder}: {error.strerror}") from error
        except (FailedJobError, FailedSubmissionError) as error:
            self._remove_untaken()
            lines = [line.removeprefix("sbatch: error: ") for line in str(error).splitlines()]
            raise Refused("; ".join(filter(None, lines)) or repr(error)) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)

    def _remove_untaken(self) -> None:
        for path in self.folder.iterdir():
            if re.fullmatch(_UNTAKEN, path.name):
                path.unlink()

    def _wait_for_room(self, reason: str, *, waiting: int) -> None:
        if not self._accepted:
            raise InputError(
                f"{self.place} takes no job: {reason} (hydra.launcher says what jobs ask for)"
            )
        self._full = True
        if reason != self._told:
            self._told = reason
            message = f"{self.place} takes no more jobs now, {waiting} wait: {reason}"
            print(message, file=sys.stderr, flush=True)

    @abstractmethod
    def stop(self) -> None:
        """Let jobs under way save their state, and wait for them."""

    def look(self) -> None:
        """Find out which jobs have ended, at once for all."""
        self._jobs = [started for started in self._jobs if not started.done()]

    @abstractmethod
    def ended(self, job: Job[Outcome]) -> bool:
        """Tell whether a job has ended, maybe without a result."""

    @abstractmethod
    def explain(self, job: Job[Outcome]) -> Outcome:
        """Tell why a job is gone that left no result."""

    @property
    def running(self) -> list[Job[Outcome]]:
        """Return the jobs that have not ended."""
        self.look()
        return [started.job for started in self._jobs]


class _Started:
    def __init__(self, executor: Submitted, job: Job[Outcome]):
        self._executor, self.job = executor, job

    def done(self) -> bool:
        return self._executor.ended(self.job)

    def result(self) -> Outcome:
        from submitit.core.utils import UncompletedJobError

        if not self.job.paths.result_pickle.exists():
            return self._executor.explain(self.job)
        try:
            return self.job.result()
        except UncompletedJobError as error:  # not the run's: the job could not be read
            return Outcome("died", reason=str(error).strip().splitlines()[-1])


class SubmittedHere(Submitted):
    """To processes of this machine, which end with this one.

    Args:
        folder: See `Submitted`.
        parameters: See `Submitted`.
        slots: How many jobs at once.
    """

    cluster, place = "local", "this machine"
    patience = 0.2

    def __init__(self, folder: Path, parameters: dict[str, Any], *, slots: int):
        super().__init__(folder, parameters, driver="driver")
        self._slots = slots
        self._lock = (self.folder / "driver").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    @property
    def slots(self) -> int:
        """How many jobs it takes at once."""
        limit = super().slots
        return self._slots if limit is None else min(self._slots, limit)

    def stop(self) -> None:
        """Send SIGTERM, which submitit's processes pass on, and wait."""
        for job in self.running:
            with suppress(ProcessLookupError):
                os.kill(int(job.job_id), signal.SIGTERM)
        while self.running:
            time.sleep(self.interval)
        self._lock.close()
        Path(self._lock.name).unlink()

    def ended(self, job: Job[Outcome]) -> bool:
        """Tell whether its process has ended."""
        return job.done()

    def explain(self, job: Job[Outcome]) -> Outcome:
        """Quote the last line that it printed."""
        lines = (job.stderr() or "").strip().splitlines() or ["nothing"]
        return Outcome("died", reason=f"its process ended without a result: {lines[-1]}")


def _locked(file: Path) -> bool:
    """Tell whether a living process locks a file, which the system unlocks when it ends."""
    try:
        with file.open() as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _wait_for_the_end(number: int, frame: FrameType | None) -> None:
    """Leave the end to SLURM: it requeues a preempted job, but none that ended at its SIGTERM."""
    while True:
        signal.pause()


@dataclass(frozen=True)
class Call:
    """What submitit's process calls.

    Attributes:
        attempt: The job.
        driver: See `Submitted`.
    """

    attempt: Attempt
    driver: Path | None

    def __call__(self) -> Outcome:
        """Run the job."""
        # A run saves its state at SIGTERM, which submitit would ignore, and then does this.
        if self.driver is None:
            signal.signal(signal.SIGTERM, _wait_for_the_end)
        else:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            driver = self.driver
            follow(lambda: _locked(driver))
        return run_alone(self.attempt)

    def checkpoint(self) -> DelayedSubmission:
        """Tell submitit to requeue the job as it is: the run's state is in its folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
