"""A sweep: from the keys of a command line and their values to jobs, and on to a launcher."""

import itertools
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from stelab.arguments import Text
from stelab.engine.config.compose import parse
from stelab.engine.config.composition import overrides_of
from stelab.engine.errors import InputError
from stelab.engine.launchers.base import StudyLauncher

Point = dict[str, str]  # one override for each of some keys
MOST = 10_000  # jobs of a sweep: all are composed and checked before the first one starts


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
        self.config, self.hydra_context = config, hydra_context
        self.planned: Sequence[DictConfig] = task_function.jobs  # type: ignore[attr-defined]
        self.launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    @abstractmethod
    def jobs(self, loader: ConfigLoader, arguments: Sequence[str]) -> tuple[list[list[str]], int]:
        """Return the overrides of each job, without Hydra's keys, and how many will run at most."""

    def swept(self, loader: ConfigLoader, arguments: Sequence[str]) -> list[str]:
        """Return the keys that take several values."""
        axes = self.axes(loader, arguments)
        return [axis.key_or_group for axis in axes if axis.is_sweep_override()]

    def axes(self, loader: ConfigLoader, arguments: Sequence[str]) -> list[Override]:
        """Return all keys that are set: `params`, and the command line over them."""
        axes = [parse(loader, line) for line in (*lines_of(self.params), *arguments)]
        # Of several for one key the last counts, in the place of the first.
        return list({axis.get_key_element(): axis for axis in axes}.values())

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
    def points(self, loader: ConfigLoader, axes: Sequence[Override]) -> list[Point]:
        """Return the points, without replicates."""

    def jobs(self, loader: ConfigLoader, arguments: Sequence[str]) -> tuple[list[list[str]], int]:
        """Return the overrides of each job, and their number."""
        axes = self.axes(loader, arguments)
        points = self.points(loader, axes)
        chosen = dict.fromkeys(key for point in points for key in point)
        rest = product(values_of([a for a in axes if a.get_key_element() not in chosen]))
        require_few(len(points) * len(rest))
        keys = dict.fromkeys([*(axis.get_key_element() for axis in axes), *chosen])
        jobs = [{**point, **other} for point in points for other in rest]
        lists = dict.fromkeys(tuple(job[key] for key in keys if key in job) for job in jobs)
        return [list(job) for job in lists], len(lists)

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs that were planned; what failed is in their folders."""
        if isinstance(self.launcher, StudyLauncher):
            self.launcher.run(self.planned)
        else:
            jobs = [overrides_of(job) for job in self.planned]
            self.launcher.launch(jobs, initial_job_idx=0)


def lines_of(keys: Mapping[str, Any]) -> list[str]:
    """Return keys and values of YAML as overrides are written."""
    return [f"{key}={'null' if value is None else value}" for key, value in keys.items()]


def overrides_of_axis(axis: Override) -> list[str]:
    """Return an override for each value of a key, none twice; refuse what cannot be listed."""
    if not axis.is_sweep_override():
        return [str(axis.input_line)]
    if not axis.is_discrete_sweep():
        raise InputError(
            f"'{axis.input_line}' is a continuous range: only sweep=optuna takes "
            "one; other sweeps take choice(...) or a list"
        )
    sweep = axis.value()
    if isinstance(sweep, RangeSweep):
        try:
            short = abs(sweep.stop - sweep.start) <= MOST * abs(sweep.step)  # type: ignore[operator]
        except OverflowError:
            short = False
        if not short:
            raise InputError(
                f"'{axis.input_line}' has more than {MOST} values: give fewer, or search it with "
                "sweep=optuna and interval(...)"
            )
    values = list(dict.fromkeys(axis.sweep_string_iterator()))
    if not values:
        group, loader = axis.key_or_group, axis.config_loader
        options = loader.get_group_options(group) if loader else []
        raise InputError(
            f"'{axis.input_line}' matches nothing, so there is nothing to run "
            f"(options of {group}: {', '.join(options) or 'none: it is not a group'})"
        )
    return [f"{axis.get_key_element()}={value}" for value in values]


def values_of(axes: Sequence[Override]) -> dict[str, list[str]]:
    """Return the overrides of each key, as it is written: with a leading ``+`` where it has one."""
    return {axis.get_key_element(): overrides_of_axis(axis) for axis in axes}


def require_few(jobs: int) -> None:
    """Refuse a sweep of more than `MOST` jobs."""
    if jobs > MOST:
        raise InputError(f"a sweep may have {MOST} jobs, this one has {jobs}: split it")


def product(values: Mapping[str, Sequence[str]]) -> list[Point]:
    """Return every combination, unless there are too many; the last key varies fastest."""
    require_few(math.prod(map(len, values.values())))
    return [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]


def one_at_a_time(values: Mapping[str, Sequence[str]]) -> list[Point]:
    """Return the first value of every key, then each other value alone."""
    baseline = {key: first for key, (first, *_) in values.items()}
    changes = [{key: value} for key, (_, *others) in values.items() for value in others]
    return [baseline, *({**baseline, **change} for change in changes)]
