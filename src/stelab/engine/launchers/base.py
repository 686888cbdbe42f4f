"""What all launchers share."""

from __future__ import annotations

import itertools
import signal
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal, NoReturn, cast

from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from stelab.arguments import Size
from stelab.engine.config.compose import compose_job
from stelab.engine.config.composition import overrides_of
from stelab.engine.launchers.executor import Executor
from stelab.engine.launchers.job import Outcome
from stelab.engine.launchers.schedule import Job, Schedule
from stelab.engine.studies.sweep import told_apart

OnFailure = Literal["continue", "stop"]


class JobFailed(SystemExit):
    """A failure that was told when it happened: it ends a sweep with exit code 1.

    Attributes:
        reason: The last line of the job's error.
    """

    def __init__(self, reason: str):
        super().__init__(1)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class FailedReturn(JobReturn):
    """Of a failed job: raises its failure, without the line that Hydra would print before."""

    @property
    def return_value(self) -> NoReturn:
        """Raise the failure."""
        raise self._return_value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


@dataclass(frozen=True)
class Titles:
    """How the jobs of a sweep are called where they are told of.

    Attributes:
        count: How many there are: ``"18"``, or ``"at most 18"``.
        name: Tells what was swept from a job's overrides.
    """

    count: str
    name: Callable[[Sequence[str]], str]

    def of(self, number: int, overrides: Sequence[str]) -> str:
        """Return e.g. ``"3 of 18: model.bits=256 seed=0"``; `number` counts from 0."""
        return f"{number + 1} of {self.count}: {self.name(overrides)}".removesuffix(": ")


class StudyLauncher(Launcher):
    """Runs the jobs of a sweep; a failure is told, and stays where it happened.

    Args:
        retries: How often a failed job is tried again, from its last checkpoint.
        on_failure: ``"stop"``: no further job is started after a failure.
    """

    def __init__(self, *, retries: Size, on_failure: OnFailure):
        self.retries = retries
        self.on_failure = on_failure

    @abstractmethod
    def executor(self) -> Executor:
        """Make what runs the jobs.

        Raises:
            InputError: It cannot be had.
        """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what the sweep is.

        `task_function` is a closure of this process, which no worker could be sent: jobs call
        what it calls, what the project declares.
        """
        self.hydra_context = hydra_context
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        """Compose and run the jobs that another project's sweeper has chosen."""
        return self.run([self.compose(job) for job in job_overrides], first=initial_job_idx)

    def compose(self, overrides: Sequence[str], *, swept: Sequence[str] = ()) -> DictConfig:
        """Compose and check a job that was chosen while the sweep goes on."""
        hydra = self.config.hydra
        lines = [*hydra.overrides.hydra, *overrides]
        return compose_job(self.hydra_context.config_loader, "train", lines, swept=swept)

    def run(self, jobs: Sequence[DictConfig], *, first: int = 0) -> list[JobReturn]:
        """Run all jobs; return the results of those that were started, in their order."""
        results: dict[tuple[str, ...], JobReturn] = {}

        def done(job: DictConfig, result: JobReturn) -> None:
            results[tuple(overrides_of(job))] = result

        lists = [overrides_of(job) for job in jobs]
        names = {tuple(job): name for job, name in zip(lists, told_apart(lists), strict=True)}
        titles = Titles(f"{len(jobs)}", lambda job: names[tuple(job)])
        self.stream(iter(jobs), done, titles, first=first)
        return [results[tuple(job)] for job in lists if tuple(job) in results]

    def stream(
        self,
        jobs: Iterator[DictConfig | None],
        done: Callable[[DictConfig, JobReturn], None],
        titles: Titles,
        *,
        first: int = 0,
    ) -> None:
        """Run jobs that are asked for one by one, whenever a slot is free.

        Args:
            jobs: Gives the next job, composed; None: none before another one has ended.
            done: Called, in this thread, with a job and its result.
            titles: How jobs are called.
            first: The number of the first job.
        """
        hydra = self.config.hydra
        executor = self.executor()
        try:
            configure_log(hydra.job_logging, hydra.verbose)
            with terminable():
                Schedule(
                    executor=executor,
                    jobs=self._jobs(jobs, itertools.count(first), titles),
                    done=lambda job, outcome: done(job.cfg, _as_return(job, outcome)),
                    logging=cast(dict[str, Any], OmegaConf.to_container(hydra.job_logging)),
                    retries=self.retries,
                    on_failure=self.on_failure,
                ).run()
        finally:
            executor.stop()
            configure_log(hydra.hydra_logging, hydra.verbose)

    def _jobs(
        self, jobs: Iterator[DictConfig | None], numbers: Iterator[int], titles: Titles
    ) -> Iterator[Job | None]:
        for cfg in jobs:
            if cfg is None:
                yield None
            else:
                number = next(numbers)
                yield Job(number, cfg, titles.of(number, overrides_of(cfg)))


def _as_return(job: Job, outcome: Outcome) -> JobReturn:
    result = JobReturn() if outcome.status == "finished" else FailedReturn()
    result.overrides, result.cfg, result.task_name = overrides_of(job.cfg), job.cfg, "train"
    if outcome.status == "finished":
        result.status, result.return_value = JobStatus.COMPLETED, outcome.value
    else:
        result.status, result.return_value = JobStatus.FAILED, JobFailed(outcome.reason)
    return result


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM unwind this process, which stops the workers, instead of ending it at once."""
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
