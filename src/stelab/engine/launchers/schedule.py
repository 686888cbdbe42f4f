"""Which job is started next, and what becomes of one that failed.

It knows no executor and no sweeper, but pulls jobs from an iterator: a search chooses its next job
when a slot is free, from what earlier ones have shown, and says None while it waits for one of
them. A job whose run is finished takes no slot. One that another process trains right now would
only wait in its slot, so it comes last. Executors differ in what a poll costs them, some are asked
over a network: polls become rarer while nothing ends.
"""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from omegaconf import DictConfig

from stelab.engine.launchers.job import Attempt, Executor, Outcome
from stelab.engine.studies.lock import is_locked
from stelab.engine.studies.record import RunFolder, finished_run, record_death
from stelab.engine.terminal import visible

log = logging.getLogger(__name__)
OnFailure = Literal["continue", "stop"]  # "stop": no further job is started after a failure


@dataclass
class Job:
    """A run that a sweep wants, composed and checked."""

    cfg: DictConfig
    title: str  # in messages: its place in the sweep and what was swept
    failures: int = 0
    is_announced: bool = False


@dataclass
class Schedule:
    """Keeps an executor busy with jobs until there are none."""

    executor: Executor
    jobs: Iterator[Job | None]
    done: Callable[[Job, Outcome], None]  # called after all retries
    logging: dict[str, Any]  # `hydra.job_logging`
    retries: int
    on_failure: OnFailure

    def __post_init__(self) -> None:
        self._waiting: deque[Job] = deque()  # that failed, or were not taken
        self._trained_elsewhere: deque[Job] = deque()  # by another process, when last looked
        self._running: dict[Future[Outcome], Job] = {}
        self._stopped = False
        self._exhausted = False  # there is no job before one has ended
        self._pause = self.executor.interval

    def run(self) -> None:
        """Run all jobs."""
        self._fill()
        while self._running or (self._waiting and not self._stopped):
            self.executor.poll()
            ended = [future for future in self._running if future.done()]
            if ended:
                self._pause = self.executor.interval
            else:  # wait, the longer the longer none has ended
                time.sleep(self._pause)
                self._pause = min(1.5 * self._pause, self.executor.patience)
            for future in ended:
                self._settle(self._running.pop(future), future.result())
            if ended or not self._exhausted:
                self._fill()

    def _fill(self) -> None:
        """Start jobs in all free slots; those that the executor does not take wait."""
        slots, batch, candidates = self.executor.slots, list[Job](), self._candidates()
        self._exhausted = False
        while slots is None or len(self._running) + len(batch) < slots:
            job = next(candidates, None)
            if job is None:
                self._exhausted = True
                break
            if finished := finished_run(job.cfg):  # which needs no slot
                self._settle(job, Attempt(job.cfg, self.logging, finished)())
                continue
            if not job.is_announced:
                log.info("%s", job.title)
                job.is_announced = True
            batch.append(job)
        if batch:
            futures = self.executor.start([Attempt(job.cfg, self.logging) for job in batch])
            self._running |= zip(futures, batch, strict=False)
            self._waiting.extendleft(reversed(batch[len(futures) :]))
            self._exhausted &= not self._waiting

    def _candidates(self) -> Iterator[Job]:
        """Yield jobs to start, those that another process trains right now only at the end."""
        while self._waiting and not self._stopped:
            yield self._waiting.popleft()
        if self._stopped:
            return
        elsewhere = self._trained_elsewhere
        for new in self.jobs:
            if new is None:
                break
            if is_locked(RunFolder.of(new.cfg).path):
                elsewhere.append(new)
            else:
                yield new
        for _ in range(len(elsewhere)):
            job = elsewhere.popleft()
            if is_locked(RunFolder.of(job.cfg).path):
                elsewhere.append(job)
            else:
                yield job
        # The run waits for the other process, and returns what that one made.
        while elsewhere:
            yield elsewhere.popleft()

    def _settle(self, job: Job, outcome: Outcome) -> None:
        """Report how an attempt ended; try again, or be done with the job."""
        folder = RunFolder.of(job.cfg)
        if outcome.status == "died":
            with suppress(OSError):  # a full disk, perhaps what it died of; it is told anyway
                record_death(folder.path, job.cfg, outcome.reason)
        has_failed = outcome.status in ("failed", "died")
        job.failures += has_failed
        retry = outcome.status == "lost" or (has_failed and job.failures <= self.retries)
        if outcome.status in ("finished", "pruned"):
            print(visible(f"{job.title}: {outcome.summary or outcome.status}"), flush=True)
        else:
            where = f" (traceback: {folder.record})" if outcome.status == "failed" else ""
            next_ = "; trying again" if retry else ""
            message = f"{job.title}: {outcome.status}: {outcome.reason}{where}{next_}"
            print(visible(message), file=sys.stderr, flush=True)
            if retry and not self._stopped:
                self._waiting.append(job)
                return
            self._stopped |= self.on_failure == "stop"
        self.done(job, outcome)
