"""The keys of a command line and the values that each of them takes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override, RangeSweep

from stelab.engine.config.compose import parse
from stelab.engine.errors import InputError

Point = dict[str, str]  # one override for each of some keys
MOST = 10_000  # jobs of a sweep: all are composed and checked before the first one starts


def read_axes(loader: ConfigLoader, overrides: Sequence[str]) -> list[Override]:
    """Parse overrides; of several for one key the last counts, in the place of the first."""
    return list({axis.get_key_element(): axis for axis in parse(loader, overrides)}.values())


def overrides_of_axis(axis: Override) -> list[str]:
    """Return an override for each value of a key, none twice; refuse what cannot be listed."""
    if not axis.is_sweep_override():
        return [str(axis.input_line)]
    if not axis.is_discrete_sweep():
        raise InputError(
            f"'{axis.input_line}' is a continuous range: only sweep=optuna takes "
            "one; other sweeps take choice(...) or a list"
        )
    _require_short_range(axis)
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


def _require_short_range(override: Override) -> None:
    """Refuse a range of too many values to be listed."""
    sweep = override.value()
    if not isinstance(sweep, RangeSweep):
        return
    try:
        short = abs(sweep.stop - sweep.start) <= MOST * abs(sweep.step)  # type: ignore[operator]
    except OverflowError:
        short = False
    if not short:
        raise InputError(
            f"'{override.input_line}' has more than {MOST} values: give fewer, or search it with "
            "sweep=optuna and interval(...)"
        )


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
