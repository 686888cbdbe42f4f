"""A sweep: from overrides to jobs, and from jobs to a launcher."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from stelab.arguments import Text
from stelab.engine.config.composition import overrides_of
from stelab.engine.errors import InputError
from stelab.engine.launchers.base import StudyLauncher
from stelab.engine.sweepers.axes import Point, product, read_axes, require_few, values_of


class StudySweeper(Sweeper):
    """A sweep whose jobs, or such as stand for them, are known before it starts."""

    # Whether `jobs` will run; if not, they stand for those that a launcher asks for one by one.
    whole: ClassVar[bool] = True
    package: ClassVar[str | None] = None  # that must be installed
    first_is_baseline: ClassVar[bool] = False  # which the other jobs are compared with
    config: DictConfig
    hydra_context: HydraContext

    def __init__(self, *, params: dict[str, Any] | None, replicates: list[Text]):
        self.params = dict(params or {})  # swept keys, as an experiment states them
        self.replicates = list(replicates)  # keys, such as the seed, that repeat a setting

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra composed and, from `task_function.jobs`, what was planned."""
        self.config = config
        self.hydra_context = hydra_context
        self.planned: Sequence[DictConfig] = task_function.jobs  # type: ignore[attr-defined]
        self.launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    @abstractmethod
    def jobs(self, loader: ConfigLoader, arguments: Sequence[str]) -> list[list[str]]:
        """Return the overrides of each job of a command line, those of Hydra's keys left out."""

    def count(self, loader: ConfigLoader, arguments: Sequence[str]) -> int:
        """Return how many jobs there will be at most."""
        return len(self.jobs(loader, arguments))

    def swept(self, loader: ConfigLoader, arguments: Sequence[str]) -> list[str]:
        """Return the keys that take several values."""
        axes = self.axes(loader, arguments)
        return [axis.key_or_group for axis in axes if axis.is_sweep_override()]

    def axes(self, loader: ConfigLoader, arguments: Sequence[str]) -> list[Override]:
        """Return all keys that are set: `params`, and the command line over them."""
        params = [f"{key}={value}" for key, value in self.params.items()]
        return read_axes(loader, [*params, *arguments])

    def factors(self, axes: Sequence[Override]) -> list[Override]:
        """Return the swept keys that are no replicates, of which there must be some."""
        swept = [axis for axis in axes if axis.is_sweep_override()]
        factors = [axis for axis in swept if axis.key_or_group not in self.replicates]
        if not factors:
            besides = f" besides the replicates ({', '.join(self.replicates)})"
            raise InputError(
                f"there is nothing to sweep over{besides if self.replicates else ''}: give a key "
                "several values, e.g. seed=0,1"
            )
        return factors


class ListSweeper(StudySweeper):
    """A sweep over a list of points, each with every combination of the replicates."""

    @abstractmethod
    def points(self, axes: Sequence[Override]) -> list[Point]:
        """Return the points, without replicates."""

    def jobs(self, loader: ConfigLoader, arguments: Sequence[str]) -> list[list[str]]:
        """Return the overrides of each job; see `StudySweeper.jobs`."""
        axes = self.axes(loader, arguments)
        keys, points = [axis.get_key_element() for axis in axes], self.points(axes)
        rest = product(values_of([a for a in axes if a.get_key_element() not in points[0]]))
        require_few(len(points) * len(rest))
        jobs = [{**point, **other} for point in points for other in rest]
        lists = dict.fromkeys(tuple(job[key] for key in keys) for job in jobs)
        return [list(job) for job in lists]

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Run the jobs that were planned; what failed is in their folders and what is returned."""
        if isinstance(self.launcher, StudyLauncher):
            return self.launcher.run(self.planned)
        jobs = [overrides_of(job) for job in self.planned]
        results: Sequence[JobReturn] = self.launcher.launch(jobs, initial_job_idx=0)
        return results
