"""Which job is started next, and what becomes of one that failed."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from omegaconf import DictConfig

from stelab.engine.launchers.executor import Executor, Started
from stelab.engine.launchers.job import Attempt, Outcome
from stelab.engine.studies.record import finished_run, record_death
from stelab.engine.studies.run_folder import RunFolder
from stelab.engine.terminal import visible

log = logging.getLogger(__name__)


@dataclass
class Job:
    """A run that a sweep wants.

    Attributes:
        number: Its place in the sweep, from 0.
        cfg: Its configuration, composed and checked.
        title: How it is called where it is told of: its place in the sweep and what was swept.
        failures: How often it failed so far.
    """

    number: int
    cfg: DictConfig
    title: str
    failures: int = 0

    @property
    def folder(self) -> RunFolder:
        """Return its run's folder."""
        return RunFolder.of(self.cfg)


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
        self._again: deque[Job] = deque()  # that failed, or were not taken
        self._held: deque[Job] = deque()  # that another process trained when it was looked
        self._running: dict[int, tuple[Job, Started]] = {}
        self._announced: set[int] = set()
        self._stopped = False
        self._dry = False  # no job is to be had before one has ended
        self._pause = self.executor.interval

    def run(self) -> None:
        """Run all jobs."""
        self._fill()
        while self._running or (self._again and not self._stopped):
            ended = self._ended()
            for job, started in ended:
                del self._running[job.number]
                self._settle(job, started.result())
            if ended or not self._dry:
                self._fill()

    def _fill(self) -> None:
        """Start jobs in all free slots."""
        slots, batch, candidates = self.executor.slots, list[Job](), self._candidates()
        self._dry = False
        while slots is None or len(self._running) + len(batch) < slots:
            job = next(candidates, None)
            if job is None:
                self._dry = True
                break
            if finished := finished_run(job.cfg):  # which needs no slot
                self._settle(job, Attempt(job.cfg, self.logging, finished)())
                continue
            self._announce(job)
            batch.append(job)
        if batch:
            self._start(batch)

    def _announce(self, job: Job) -> None:
        if job.number not in self._announced:
            self._announced.add(job.number)
            log.info("%s", job.title)

    def _start(self, batch: list[Job]) -> None:
        """Start jobs; those that are not taken wait."""
        taken = self.executor.start([Attempt(job.cfg, self.logging) for job in batch])
        for job, started in zip(batch, taken, strict=False):
            self._running[job.number] = (job, started)
        self._again.extendleft(reversed(batch[len(taken) :]))
        self._dry &= not self._again

    def _candidates(self) -> Iterator[Job]:
        """Yield jobs to start, those that another process trains right now only at the end."""
        while self._again and not self._stopped:
            yield self._again.popleft()
        if self._stopped:
            return
        for new in self.jobs:
            if new is None:
                break
            if new.folder.is_locked():
                self._held.append(new)
            else:
                yield new
        for _ in range(len(self._held)):
            job = self._held.popleft()
            if job.folder.is_locked():
                self._held.append(job)
            else:
                yield job
        # The run waits for the other process, and returns what that one made.
        while self._held:
            yield self._held.popleft()

    def _ended(self) -> list[tuple[Job, Started]]:
        """Look at the jobs; where none has ended, wait, the longer the longer none has."""
        self.executor.look()
        ended = [(job, started) for job, started in self._running.values() if started.done()]
        if ended:
            self._pause = self.executor.interval
        else:
            time.sleep(self._pause)
            self._pause = min(1.5 * self._pause, self.executor.patience)
        return ended

    def _settle(self, job: Job, outcome: Outcome) -> None:
        """Tell how an attempt ended; try again, or be done with the job."""
        if outcome.status == "died":
            with suppress(OSError):  # a full disk, perhaps what it died of; it is told anyway
                record_death(job.folder.path, job.cfg, outcome.reason)
        again = outcome.status == "lost" or self._failed_but_tries_again(job, outcome)
        self._tell(job, outcome, again=again)
        if again and not self._stopped:
            self._again.append(job)
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
        if outcome.status in ("finished", "pruned"):
            print(visible(f"{job.title}: {outcome.told or outcome.status}"), flush=True)
        else:
            where = f" (traceback: {job.folder.record})" if outcome.status == "failed" else ""
            next_ = "; trying again" if again else ""
            message = f"{job.title}: {outcome.status}: {outcome.reason}{where}{next_}"
            print(visible(message), file=sys.stderr, flush=True)
