"""Jobs submitted with submitit: to SLURM, or the same way to processes of this machine."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from stelab.errors import InputError
from stelab.launchers.executor import Started
from stelab.launchers.job import Attempt, Outcome, follow, run_alone

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job
    from submitit.helpers import DelayedSubmission

_NOT_ITS_FAULT = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL")
_QUEUE_AGE = 10.0  # seconds after which SLURM is asked for its queue again
_FOREVER = 1_000_000  # times that a job may be requeued at its time limit


class Submitted(ABC):
    """Submits jobs as they come; those that come together become one job array on SLURM.

    Args:
        folder: Where submitit keeps its files and what jobs print.
        parameters: What jobs need, as submitit calls it.
        driver: A file that is locked while the process lives that jobs end with; None: they
            outlive it.

    Raises:
        InputError: submitit refuses them.
    """

    cluster: str
    interval = 0.2
    tells = False

    def __init__(self, folder: Path, parameters: dict[str, Any], *, driver: Path | None):
        self._executor = self._make(folder, parameters)
        self._driver = driver
        self._jobs: list[_Started] = []

    def _make(self, folder: Path, parameters: dict[str, Any]) -> AutoExecutor:
        from submitit import AutoExecutor

        try:
            executor = AutoExecutor(folder, cluster=self.cluster, slurm_max_num_timeout=_FOREVER)
            executor.update_parameters(**parameters)
        except (RuntimeError, NameError, ValueError, AssertionError) as error:
            raise InputError(f"submitit refuses hydra.launcher: {error}") from error
        return executor

    @property
    @abstractmethod
    def slots(self) -> int | None:
        """How many jobs it takes at once."""

    def start(self, attempts: Sequence[Attempt]) -> list[Started]:
        """Submit jobs."""
        calls = [Call(attempt, self._driver) for attempt in attempts]
        # A job ends at SIGTERM; of Ctrl-C, which goes to all processes, submitit's own would die.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with self._executor.batch():
                jobs = [self._executor.submit(call) for call in calls]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        started = [_Started(self, job) for job in jobs]
        self._jobs += started
        return [*started]

    @abstractmethod
    def stop(self) -> None:
        """Let jobs under way save their state, and wait for them."""

    @abstractmethod
    def gone(self, job: Job[Outcome]) -> bool:
        """Tell whether a job has ended, maybe without a result."""

    @abstractmethod
    def explain(self, job: Job[Outcome]) -> Outcome:
        """Tell why a job is gone that left no result."""

    @property
    def running(self) -> list[Job[Outcome]]:
        """Return the jobs that have not ended."""
        self._jobs = [started for started in self._jobs if not started.done()]
        return [started.job for started in self._jobs]


class _Started:
    def __init__(self, executor: Submitted, job: Job[Outcome]):
        self._executor, self.job = executor, job

    def done(self) -> bool:
        return self.job.paths.result_pickle.exists() or self._executor.gone(self.job)

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

    cluster = "local"
    slots = 1

    def __init__(self, folder: Path, parameters: dict[str, Any], *, slots: int):
        driver = (folder / f"driver{os.getpid()}").absolute()
        super().__init__(folder, parameters, driver=driver)
        self.slots = slots
        self._lock = driver.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def stop(self) -> None:
        """Send SIGTERM, which submitit's processes pass on, and wait."""
        running = self.running
        for job in running:
            with suppress(ProcessLookupError):
                os.kill(int(job.job_id), signal.SIGTERM)
        while self.running:
            time.sleep(self.interval)
        self._lock.close()
        Path(self._lock.name).unlink()

    def gone(self, job: Job[Outcome]) -> bool:
        """Tell whether its process has ended."""
        return job.done()

    def explain(self, job: Job[Outcome]) -> Outcome:
        """Quote the last line that it printed."""
        lines = (job.stderr() or "").strip().splitlines() or ["nothing"]
        return Outcome("died", reason=f"its process ended without a result: {lines[-1]}")


class SubmittedToSlurm(Submitted):
    """To SLURM, whose jobs outlive this process: the same command waits for them.

    Args:
        folder: See `Submitted`; on a file system that all nodes share.
        parameters: See `Submitted`.
    """

    cluster = "slurm"
    slots = None

    def __init__(self, folder: Path, parameters: dict[str, Any]):
        super().__init__(folder, parameters, driver=None)
        self._absent: Counter[str] = Counter()
        self._asked = time.monotonic()

    def stop(self) -> None:
        """Cancel jobs that wait, send SIGINT to the others, once, and wait."""
        ids = {job.job_id for job in self.running}
        told = set[str]()
        while ids:
            _ask("scancel", "--quiet", "--state=PENDING", *ids)
            running = (_queue("--states=RUNNING") or set()) & ids - told
            if running:
                _ask("scancel", "--quiet", "--signal=INT", *running)
                told |= running
            time.sleep(1)
            queue = _queue()
            ids = ids if queue is None else ids & queue

    def gone(self, job: Job[Outcome]) -> bool:
        """Tell whether SLURM's queue lacked it twice: a result may take time to be seen here."""
        if time.monotonic() - self._asked > _QUEUE_AGE:
            self._asked = time.monotonic()
            if (queue := _queue()) is not None:
                self._absent.update({s.job.job_id for s in self._jobs} - queue)
        return self._absent[job.job_id] > 1

    def explain(self, job: Job[Outcome]) -> Outcome:
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
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return done.stdout


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
