"""What all launchers share: from composed jobs to Hydra's results."""

import itertools
import signal
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn, cast

from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from stelab.arguments import Size
from stelab.engine.config.compose import compose_job
from stelab.engine.config.composition import overrides_of
from stelab.engine.launchers.job import Executor, Outcome
from stelab.engine.launchers.schedule import Job, OnFailure, Schedule
from stelab.engine.studies.sweep import differing_overrides


class FailedReturn(JobReturn):
    """Of a failed job, which was reported already: ends a sweep that asks for its value."""

    @property
    def return_value(self) -> NoReturn:
        """End the sweep."""
        raise SystemExit(1)

    @return_value.setter
    def return_value(self, value: Any) -> None: ...


class StudyLauncher(Launcher):
    """Runs the jobs of a sweep; a failure is reported, and stays where it happened.

    Attributes:
        forks: Whether it asks for a `fork_server`, which may begin before the jobs are checked.
    """

    forks = False

    def __init__(self, *, retries: Size, on_failure: OnFailure):
        self.retries = retries  # of a failed job, from its last checkpoint
        self.on_failure = on_failure

    @abstractmethod
    def _executor(self, most: int | None) -> Executor:
        """Make what runs the jobs, at most so many if that is known; refuse what cannot be had."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what the sweep is, but its closure, which no worker could be sent; see `Attempt`."""
        self.hydra_context, self.config = hydra_context, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        """Compose and run the jobs that another project's sweeper has chosen."""
        return self.run([self.compose(job) for job in job_overrides], first=initial_job_idx)

    def compose(self, overrides: Sequence[str], *, swept: Sequence[str] = ()) -> DictConfig:
        """Compose and check a job that was chosen while the sweep goes on."""
        lines = [*self.config.hydra.overrides.hydra, *overrides]
        return compose_job(self.hydra_context.config_loader, "train", lines, swept=swept)

    def run(self, jobs: Sequence[DictConfig], *, first: int = 0) -> list[JobReturn]:
        """Run all jobs; return the results of those that were started, in their order."""
        titles = iter(differing_overrides([overrides_of(job) for job in jobs]))
        results: dict[int, JobReturn] = {}

        def done(job: Job, outcome: Outcome) -> None:
            is_finished = outcome.status == "finished"
            result = JobReturn() if is_finished else FailedReturn()
            result.status = JobStatus.COMPLETED if is_finished else JobStatus.FAILED
            result.return_value, result.task_name = outcome.value, "train"
            result.overrides, result.cfg = overrides_of(job.cfg), job.cfg
            results[id(job.cfg)] = result

        self.stream(
            iter(jobs),
            done,
            count=str(len(jobs)),
            title=lambda _: next(titles),
            first=first,
            most=len(jobs),
        )
        return [results[id(job)] for job in jobs if id(job) in results]

    def stream(
        self,
        jobs: Iterator[DictConfig | None],
        done: Callable[[Job, Outcome], None],
        *,
        count: str,
        title: Callable[[DictConfig], str],
        first: int = 0,
        most: int | None = None,
    ) -> None:
        """Run jobs that are asked for one by one, whenever a slot is free; at most so many.

        While `jobs` gives None, no job comes before another one has ended. Messages call a job by
        its number, their `count`, such as ``"at most 18"``, and its title: what was swept.
        """
        numbers = itertools.count(first + 1)
        titled = (
            None
            if cfg is None
            else Job(cfg, f"{next(numbers)} of {count}: {title(cfg)}".removesuffix(": "))
            for cfg in jobs
        )
        hydra = self.config.hydra
        executor = self._executor(most)
        before = signal.signal(signal.SIGTERM, _leave)
        try:
            configure_log(hydra.job_logging, hydra.verbose)
            Schedule(
                executor=executor,
                jobs=titled,
                done=done,
                logging=cast(dict[str, Any], OmegaConf.to_container(hydra.job_logging)),
                retries=self.retries,
                on_failure=self.on_failure,
            ).run()
        finally:
            signal.signal(signal.SIGTERM, before)
            executor.stop()
            configure_log(hydra.hydra_logging, hydra.verbose)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Let a signal unwind this process, which stops the workers, instead of ending it at once."""
    raise SystemExit(128 + number)
