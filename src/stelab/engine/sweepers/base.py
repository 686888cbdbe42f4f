"""A sweep: from overrides to jobs, and from jobs to a launcher."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from stelab.arguments import Text
from stelab.engine.config.composition import overrides_of
from stelab.engine.errors import InputError
from stelab.engine.launchers.base import StudyLauncher
from stelab.engine.studies.run_folder import RunFolder
from stelab.engine.sweepers.axes import Axis, Point, product, read_axes, require_few


class StudySweeper(Sweeper):
    """A sweep whose jobs, or such as stand for them, are known before it starts.

    Args:
        params: Swept keys, as an experiment states them; the command line goes over them.
        replicates: Keys, such as the seed, that repeat a setting.

    Attributes:
        whole: Whether `jobs` are the jobs that will run, or stand for them.
        package: What it needs installed.
        streams: Whether it needs a launcher that asks for jobs one by one.
        first_is_baseline: Whether the first job is what the others are compared with.
    """

    whole: ClassVar[bool] = True
    package: ClassVar[str | None] = None
    streams: ClassVar[bool] = False
    first_is_baseline: ClassVar[bool] = False
    config: DictConfig
    hydra_context: HydraContext

    def __init__(self, *, params: dict[str, Any] | None, replicates: list[Text]):
        self.params = dict(params or {})
        self.replicates = list(replicates)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra composed and what was planned, and make the launcher.

        Args:
            hydra_context: Hydra's.
            task_function: Has, as `jobs`, the configurations of the plan.
            config: The sweep's.
        """
        self.config = config
        self.hydra_context = hydra_context
        self.planned: Sequence[DictConfig] = task_function.jobs  # type: ignore[attr-defined]
        self.launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    @abstractmethod
    def jobs(self, loader: ConfigLoader, arguments: Sequence[str]) -> list[list[str]]:
        """Return the overrides of each job, those of Hydra's own keys left out.

        Args:
            loader: Hydra's.
            arguments: The command line's, those of Hydra's own keys left out.

        Raises:
            InputError: They are no sweep of this kind.
        """

    @abstractmethod
    def count(self, loader: ConfigLoader, arguments: Sequence[str]) -> int:
        """Return how many jobs there will be at most."""

    def swept(self, loader: ConfigLoader, arguments: Sequence[str]) -> list[str]:
        """Return the keys that take several values."""
        return [axis.override.key_or_group for axis in self.axes(loader, arguments) if axis.swept]

    def axes(self, loader: ConfigLoader, arguments: Sequence[str]) -> list[Axis]:
        """Return all keys that are set: `params`, and the command line over them."""
        params = [f"{key}={value}" for key, value in self.params.items()]
        return read_axes(loader, [*params, *arguments])

    def factors(self, axes: Sequence[Axis]) -> list[Axis]:
        """Return the swept keys that are no replicates.

        Raises:
            InputError: There are none.
        """
        found = [axis for axis in axes if axis.swept and not axis.is_one_of(self.replicates)]
        if not found:
            besides = f" besides the replicates ({', '.join(self.replicates)})"
            raise InputError(
                f"there is nothing to sweep over{besides if self.replicates else ''}: give a key "
                "several values, e.g. seed=0,1"
            )
        return found


class ListSweeper(StudySweeper):
    """A sweep over a list of points, each with every combination of the replicates."""

    @abstractmethod
    def points(self, axes: Sequence[Axis]) -> list[Point]:
        """Return the points, without replicates."""

    def jobs(self, loader: ConfigLoader, arguments: Sequence[str]) -> list[list[str]]:
        """Return the overrides of each job; see `StudySweeper.jobs`."""
        axes = self.axes(loader, arguments)
        points = self.points(axes)
        rest = product({a.key: a.overrides() for a in axes if a.key not in points[0]})
        require_few(len(points) * len(rest))
        jobs = [{**point, **other} for point in points for other in rest]
        lists = [tuple(job[axis.key] for axis in axes) for job in jobs]
        return [list(job) for job in dict.fromkeys(lists)]

    def count(self, loader: ConfigLoader, arguments: Sequence[str]) -> int:
        """Return how many jobs there will be."""
        return len(self.jobs(loader, arguments))

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Run the jobs that were planned; what failed is in their folders and what is returned."""
        if isinstance(self.launcher, StudyLauncher):
            return self.launcher.run(self.planned)
        jobs = [overrides_of(job) for job in self.planned]
        results: Sequence[JobReturn] = self.launcher.launch(jobs, initial_job_idx=0)
        return results


def has_failed(cfg: DictConfig) -> bool:
    """Tell whether the last attempt at a run failed."""
    return RunFolder.of(cfg).status() == "failed"
