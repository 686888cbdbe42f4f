"""Which job is started next, and what becomes of one that failed."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from stelab.launchers.executor import Executor, Started
from stelab.launchers.job import Attempt, Outcome
from stelab.studies.lock import is_locked
from stelab.studies.record import finished_run, record_death

log = logging.getLogger(__name__)


@dataclass
class Job:
    """A run that a sweep wants.

    Attributes:
        number: Its place in the sweep, from 0.
        overrides: What it was composed with.
        cfg: Its configuration.
        failures: How often it failed so far.
    """

    number: int
    overrides: list[str]
    cfg: DictConfig
    failures: int = 0

    @property
    def folder(self) -> Path:
        """Return its run's folder."""
        return Path(self.cfg.paths.run)


@dataclass
class Schedule:
    """Keeps an executor busy with jobs until there are none.

    Attributes:
        executor: Where jobs run.
        jobs: Gives the next one; None where there is none before another has ended.
        done: Called with each job and how it ended, after all retries.
        logging: `hydra.job_logging`.
        retries: How often a failed job is tried again.
        on_failure: Whether jobs are started after a failure.
    """

    executor: Executor
    jobs: Iterator[Job | None]
    done: Callable[[Job, Outcome], None]
    logging: dict[str, Any]
    retries: int
    on_failure: Literal["continue", "stop"]

    def __post_init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._running: dict[int, tuple[Job, Started]] = {}
        self._stopped = False

    def run(self) -> None:
        """Run all jobs."""
        while True:
            self._fill()
            if not self._running:
                return
            for job, started in self._ended():
                del self._running[job.number]
                self._settle(job, started.result())

    def _fill(self) -> None:
        """Start jobs in all free slots."""
        slots, batch = self.executor.slots, list[Job]()
        while slots is None or len(self._running) + len(batch) < slots:
            job = self._next()
            if job is None:
                break
            if finished_run(job.cfg):  # which needs no slot
                self.done(job, Attempt(job.cfg, self.logging)())
                continue
            log.info("job %d: %s", job.number, " ".join(job.overrides))
            batch.append(job)
        if batch:
            attempts = [Attempt(job.cfg, self.logging) for job in batch]
            for job, started in zip(batch, self.executor.start(attempts), strict=True):
                self._running[job.number] = (job, started)

    def _next(self) -> Job | None:
        """Return the next job, of those that another process trains right now only the last."""
        if self._stopped:
            return None
        for _ in range(len(self._waiting)):
            job = self._waiting.popleft()
            if not is_locked(job.folder):
                return job
            self._waiting.append(job)
        for new in self.jobs:
            if new is None:
                break
            if not is_locked(new.folder):
                return new
            self._waiting.append(new)
        # The run waits for the other process, and returns what that one made.
        return self._waiting.popleft() if self._waiting else None

    def _ended(self) -> list[tuple[Job, Started]]:
        """Wait until jobs have ended."""
        while True:
            ended = [(job, started) for job, started in self._running.values() if started.done()]
            if ended:
                return ended
            time.sleep(self.executor.interval)

    def _settle(self, job: Job, outcome: Outcome) -> None:
        """Tell how an attempt ended; try again, or be done with the job."""
        if outcome.status == "died":
            record_death(job.folder, job.cfg, outcome.reason)
        again = outcome.status == "lost" or self._failed_but_tries_again(job, outcome)
        self._tell(job, outcome, again=again)
        if again and not self._stopped:
            self._waiting.appendleft(job)
            return
        if outcome.status not in ("finished", "pruned"):
            self._stopped |= self.on_failure == "stop"
        self.done(job, outcome)

    def _failed_but_tries_again(self, job: Job, outcome: Outcome) -> bool:
        if outcome.status not in ("failed", "died"):
            return False
        job.failures += 1
        return job.failures <= self.retries

    def _tell(self, job: Job, outcome: Outcome, *, again: bool) -> None:
        name, record = job.folder.name, job.folder / "run.json"
        if outcome.status == "finished":
            if not self.executor.tells:
                print(f"{name}: {job.cfg.monitor} {outcome.value:.4f}", flush=True)
        elif outcome.status != "pruned":
            where = f" (traceback: {record})" if outcome.status == "failed" else ""
            next_ = "; trying again" if again else ""
            message = f"{name} {outcome.status}: {outcome.reason}{where}{next_}"
            print(message, file=sys.stderr, flush=True)
