"""The jobs of a command line, composed and checked before the first one starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig

from stelab.config.compose import compose_one, search, strip
from stelab.config.mistakes import Mistakes
from stelab.errors import InputError


@dataclass(frozen=True)
class Plan:
    """Checked configurations, one a job, in the order they will run.

    Attributes:
        jobs: The configurations.
        overrides: What each of them was composed with.
        multirun: Whether they are a sweep.
    """

    jobs: list[DictConfig]
    overrides: list[list[str]]
    multirun: bool


def plan(
    command: str,
    arguments: Sequence[str],
    *,
    multirun: bool,
    config_dir: str | None,
    sweeps: bool = True,
) -> Plan:
    """Compose and check every job of a command line.

    Args:
        command: Its name.
        arguments: Its overrides.
        multirun: Whether lists of values are a sweep.
        config_dir: A folder with further groups.
        sweeps: Whether the command takes sweeps at all.

    Raises:
        InputError: Names the mistakes of all jobs; nothing was written.
    """
    with search(config_dir) as loader:
        overrides = _parse(loader, arguments)
        fixed = [o.input_line or "" for o in overrides if not o.is_sweep_override()]
        base = compose_one(command, fixed)
        multirun = multirun or base.hydra.mode == RunMode.MULTIRUN
        swept = [o for o in overrides if o.is_sweep_override()]
        if not multirun:
            if swept:
                raise InputError(f"'{swept[0].input_line}' is a sweep: add -m (--multirun)")
            return Plan([strip(base, command)], [fixed], multirun=False)
        if not sweeps:
            raise InputError(f"stelab {command} runs once: -m (--multirun) is for stelab train")
        grid, jobs = _grid(loader, base, arguments), []
        mistakes = Mistakes(len(grid))
        for job in grid:
            with mistakes.of(job):
                jobs.append(strip(compose_one(command, job), command))
        mistakes.raise_any()
        return Plan(jobs, grid, multirun=True)


def _parse(loader: ConfigLoader, arguments: Sequence[str]) -> list[Override]:
    try:
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(list(arguments))
    except OverrideParseException as error:
        raise InputError(f"'{error.override}' is not an override: write key=value") from error
    except HydraException as error:
        raise InputError(str(error)) from error
    for override in overrides:
        if override.is_sweep_override() and not list(_options(override)):
            group = override.key_or_group
            available = ", ".join(loader.get_group_options(group)) or "none: it is not a group"
            raise InputError(
                f"'{override.input_line}' matches nothing, so there is nothing to run "
                f"(options of {group}: {available})"
            )
    return overrides


def _options(override: Override) -> list[str]:
    if not override.is_discrete_sweep():
        raise InputError(
            f"'{override.input_line}' is a continuous range: a grid takes choice(...) or a list"
        )
    return list(override.sweep_string_iterator())


def _grid(loader: ConfigLoader, base: DictConfig, arguments: Sequence[str]) -> list[list[str]]:
    """Expand the product of all swept keys, as Hydra's own sweeper will."""
    params = [f"{key}={value}" for key, value in (base.hydra.sweeper.params or {}).items()]
    (jobs,) = BasicSweeper.split_arguments(_parse(loader, [*params, *arguments]), None)
    return jobs
