"""Jobs submitted with submitit: to SLURM, or the same way to processes of this machine."""

from __future__ import annotations

import fcntl
import io
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from submitit import AutoExecutor
from submitit import Job as SubmittedJob
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError
from submitit.helpers import DelayedSubmission

from stelab.engine.errors import InputError
from stelab.engine.launchers.job import Attempt, Outcome, follow, run_alone
from stelab.engine.launchers.processes import share_of_cpus

_FOREVER = 1_000_000  # times that a job may be requeued at its time limit
_UNTAKEN = r"[0-9a-f]{32}\.pkl|\.submission_file_[0-9a-f]{32}\.sh"
_NOT_ITS_FAULT = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL")
_QUEUE_AGE = 10.0  # seconds after which SLURM is asked for its queue again
_MAX_ARRAY_SIZE = 1001  # SLURM's default, where it does not say


class _Refused(Exception):
    """Jobs were not taken, now or ever: the message is the reason."""


class Submitted(ABC):
    """Submits jobs as they come; those that come together become job arrays on SLURM.

    Where jobs are refused, fewer are submitted together, down to a single one. What was taken
    runs; of the rest some are tried again at each poll, more when they are taken.
    """

    cluster: str
    place: str  # in messages
    interval = 0.2
    patience: float
    largest = 1  # how many jobs may be submitted together

    def __init__(self, folder: Path, parameters: dict[str, Any]):
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
        self.folder = (folder / name).absolute()
        try:
            self.folder.mkdir(parents=True)
            self._executor = AutoExecutor(
                self.folder, cluster=self.cluster, slurm_max_num_timeout=_FOREVER
            )
            self._executor.update_parameters(**parameters)
        except (RuntimeError, NameError, ValueError, AssertionError) as error:
            raise InputError(f"submitit refuses hydra.launcher: {error}") from error
        except OSError as error:
            raise InputError(f"{self.folder} cannot be made: {error}") from error
        self._parallelism: int | None = parameters.get("slurm_array_parallelism")
        self._driver: Path | None = None  # locked while the process lives that jobs end with
        self._cpus: int | None = None  # that a job may use; None: SLURM tells it
        self._futures: dict[SubmittedJob[Outcome], Future[Outcome]] = {}  # of jobs under way
        self._size = self.largest
        self._has_accepted = self._is_full = False
        self._reported: str | None = None

    @property
    def slots(self) -> int | None:
        """How many jobs it takes at once: all; once it refused some, a few more than it has."""
        return len(self._futures) + self._size if self._is_full else None

    def start(self, attempts: Sequence[Attempt]) -> list[Future[Outcome]]:
        """Submit jobs, as many as are taken; refuse them all where the first one ever is not."""
        started: list[Future[Outcome]] = []
        refused = False
        while rest := attempts[len(started) :]:
            chunk = [
                SubmittedAttempt(attempt, self._driver, self._cpus)
                for attempt in rest[: self._size]
            ]
            if self._parallelism is not None:  # each array gets its share of it
                ends = (len(started), len(started) + len(chunk))
                begin, end = (self._parallelism * place // len(attempts) for place in ends)
                self._executor.update_parameters(slurm_array_parallelism=max(1, end - begin))
            try:
                futures = {job: Future[Outcome]() for job in self._submit(chunk)}
            except _Refused as error:
                refused = True
                self._size = max(1, len(chunk) // 2)
                if len(chunk) == 1:
                    self._wait_for_room(str(error), waiting=len(rest))
                    break
            else:
                self._has_accepted = True
                self._futures |= futures
                started += futures.values()
                if not refused:
                    self._size = min(2 * self._size, self.largest)
        return started

    def _submit(self, attempts: Sequence[SubmittedAttempt]) -> list[SubmittedJob[Outcome]]:
        """Submit jobs together, or raise `_Refused` where none of them was taken."""
        # A job ends at SIGTERM; of Ctrl-C, which goes to all processes, submitit's own would die.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with redirect_stderr(io.StringIO()):  # where submitit prints what it raises, too
                return self._executor.submit_array(attempts)
        except (OSError, FailedJobError, FailedSubmissionError) as error:
            for path in self.folder.iterdir():
                if re.fullmatch(_UNTAKEN, path.name):
                    path.unlink()
            if isinstance(error, OSError):
                reason = f"{error.filename or self.folder}: {error.strerror}"
            else:
                lines = [line.removeprefix("sbatch: error: ") for line in str(error).splitlines()]
                reason = "; ".join(filter(None, lines)) or repr(error)
            raise _Refused(reason) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)

    def _wait_for_room(self, reason: str, *, waiting: int) -> None:
        if not self._has_accepted:
            raise InputError(
                f"{self.place} takes no job: {reason} (hydra.launcher says what jobs ask for)"
            )
        self._is_full = True
        if reason != self._reported:
            self._reported = reason
            message = f"{self.place} takes no more jobs now, {waiting} wait: {reason}"
            print(message, file=sys.stderr, flush=True)

    @abstractmethod
    def stop(self) -> None:
        """Let jobs under way save their state, and wait for them."""

    def poll(self) -> None:
        """Resolve the futures of jobs that have ended."""
        for job in [job for job in self._futures if self._has_ended(job)]:
            if not job.paths.result_pickle.exists():
                outcome = self._explain(job)
            else:
                try:
                    outcome = job.result()
                except UncompletedJobError as error:  # not the run's: the job could not be read
                    outcome = Outcome("died", reason=str(error).strip().splitlines()[-1])
            self._futures.pop(job).set_result(outcome)

    def _running(self) -> list[SubmittedJob[Outcome]]:
        return [job for job in self._futures if not self._has_ended(job)]

    @abstractmethod
    def _has_ended(self, job: SubmittedJob[Outcome]) -> bool:
        """Return whether a job has ended, maybe without a result."""

    @abstractmethod
    def _explain(self, job: SubmittedJob[Outcome]) -> Outcome:
        """Return why a job is gone that left no result."""


class SubmittedToSlurm(Submitted):
    """To SLURM, whose jobs outlive this process: the same command waits for them.

    Jobs that are more than an array may have become several arrays, which share
    ``slurm_array_parallelism``, but each has one job at once at least. The folder is on a file
    system that all nodes share.
    """

    cluster, place = "slurm", "SLURM"
    patience = 10.0

    def __init__(self, folder: Path, parameters: dict[str, Any]):
        # SLURM's MaxArraySize is one more than the largest index, and indices start at 0.
        shown = _ask("scontrol", "show", "config") or ""
        limits = re.findall(r"\b(?:MaxArraySize\s*=\s*|max_array_tasks=)(\d+)", shown)
        self.largest = max(1, min(map(int, limits), default=_MAX_ARRAY_SIZE))
        super().__init__(folder, parameters)
        self._names: set[str] = set()
        self._absences: Counter[str] = Counter()
        self._asked = time.monotonic()

    def stop(self) -> None:
        """Cancel jobs that wait, send SIGINT to the others, once, and wait."""
        self._names = set(os.listdir(self.folder))
        ids = {job.job_id for job in self._running()}
        signalled = set[str]()
        while ids:
            arrays = {job_id.partition("_")[0] for job_id in ids}
            _ask("scancel", "--quiet", "--state=PENDING", *arrays)
            running = (_queue("--states=RUNNING") or set()) & ids - signalled
            if running:
                _ask("scancel", "--quiet", "--signal=INT", *running)
                signalled |= running
            time.sleep(1)
            queue = _queue()
            ids = ids if queue is None else ids & queue

    def poll(self) -> None:
        """List the folder, and now and then SLURM's queue, once for all jobs."""
        self._names = set(os.listdir(self.folder))
        super().poll()
        if self._futures and time.monotonic() - self._asked > _QUEUE_AGE:
            self._asked = time.monotonic()
            if (queue := _queue()) is not None:
                self._absences.update({job.job_id for job in self._futures} - queue)

    def _has_ended(self, job: SubmittedJob[Outcome]) -> bool:
        """Return whether it left a result, which may be seen late, or the queue lacked it twice."""
        # As `job.paths.result_pickle` is called, which is slow for each of thousands of jobs.
        return f"{job.job_id}_0_result.pkl" in self._names or self._absences[job.job_id] > 1

    def _explain(self, job: SubmittedJob[Outcome]) -> Outcome:
        """Ask SLURM; what it took a machine from may run on another one."""
        shown = _ask("scontrol", "show", "job", "--oneliner", job.job_id) or ""
        fields = dict(re.findall(r"(\w+)=(\S*)", shown))
        state = fields.get("JobState", "unknown state")
        status: Literal["lost", "died"] = "lost" if state in _NOT_ITS_FAULT else "died"
        reason = f"SLURM's job {job.job_id} ended without a result: {state}"
        return Outcome(status, reason=f"{reason}, exit code {fields.get('ExitCode', 'unknown')}")


def _queue(*options: str) -> set[str] | None:
    """Return the user's jobs that wait or run; None where SLURM does not answer now."""
    listed = _ask("squeue", "--noheader", "--array", "--me", "--format=%i", *options)
    return None if listed is None else set(listed.split())


def _ask(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return done.stdout


class SubmittedHere(Submitted):
    """To processes of this machine, which end with this one."""

    cluster, place = "local", "this machine"
    patience = 0.2

    def __init__(self, folder: Path, parameters: dict[str, Any], *, slots: int):
        super().__init__(folder, parameters)
        self._slots = slots
        self._cpus = share_of_cpus(slots)
        self._driver = self.folder / "driver"
        self._lock = self._driver.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    @property
    def slots(self) -> int:
        """How many jobs it takes at once."""
        limit = super().slots
        return self._slots if limit is None else min(self._slots, limit)

    def stop(self) -> None:
        """Send SIGTERM, which submitit's processes pass on, and wait."""
        for job in self._running():
            with suppress(ProcessLookupError):
                os.kill(int(job.job_id), signal.SIGTERM)
        while self._running():
            time.sleep(self.interval)
        self._lock.close()
        Path(self._lock.name).unlink()

    def _has_ended(self, job: SubmittedJob[Outcome]) -> bool:
        return job.done()

    def _explain(self, job: SubmittedJob[Outcome]) -> Outcome:
        """Quote the last line that it printed."""
        lines = (job.stderr() or "").strip().splitlines() or ["nothing"]
        return Outcome("died", reason=f"its process ended without a result: {lines[-1]}")


def _is_locked(file: Path) -> bool:
    """Return whether a living process locks a file, which the system unlocks when it ends."""
    try:
        with suppress(FileNotFoundError), file.open() as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _wait_for_the_end(number: int, frame: FrameType | None) -> None:
    """Leave the end to SLURM: it requeues a preempted job, but none that ended at its SIGTERM."""
    while True:
        signal.pause()


@dataclass(frozen=True)
class SubmittedAttempt:
    """An attempt in submitit's process, which ends with its driver."""

    attempt: Attempt
    driver: Path | None
    cpus: int | None

    def __call__(self) -> Outcome:
        """Train."""
        # A run saves its state at SIGTERM, which submitit would ignore, and then does this.
        if self.driver is None:
            signal.signal(signal.SIGTERM, _wait_for_the_end)
        else:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            driver = self.driver
            follow(lambda: _is_locked(driver))
        return run_alone(self.attempt, cpus=self.cpus)

    def checkpoint(self) -> DelayedSubmission:
        """Have submitit requeue the job as it is: the run's state is in its folder."""
        return DelayedSubmission(self)
