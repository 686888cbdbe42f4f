"""The keys of a command line and the values that each of them takes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override, RangeSweep

from stelab.engine.config.compose import parse
from stelab.engine.errors import InputError

Point = dict[str, str]
"""One override for each of some keys."""

MOST = 10_000
"""The most jobs of a sweep: all of them are composed and checked before the first one starts."""


@dataclass(frozen=True)
class Axis:
    """A key and its values.

    Attributes:
        override: What the command line, or a sweep's `params`, says.
    """

    override: Override

    @property
    def key(self) -> str:
        """Return the key as it is written, with a leading ``+`` where it has one."""
        return self.override.get_key_element()

    @property
    def swept(self) -> bool:
        """Tell whether it takes several values."""
        return self.override.is_sweep_override()

    def is_one_of(self, keys: Sequence[str]) -> bool:
        """Tell whether it is in a list of keys."""
        return self.override.key_or_group in keys

    def overrides(self) -> list[str]:
        """Return an override for each value, none twice.

        Raises:
            InputError: They cannot be listed, or there are none.
        """
        if not self.swept:
            return [str(self.override.input_line)]
        if not self.override.is_discrete_sweep():
            raise InputError(
                f"'{self.override.input_line}' is a continuous range: only sweep=optuna takes "
                "one; other sweeps take choice(...) or a list"
            )
        _require_few(self.override)
        values = list(dict.fromkeys(self.override.sweep_string_iterator()))
        if not values:
            group, loader = self.override.key_or_group, self.override.config_loader
            options = loader.get_group_options(group) if loader else []
            raise InputError(
                f"'{self.override.input_line}' matches nothing, so there is nothing to run "
                f"(options of {group}: {', '.join(options) or 'none: it is not a group'})"
            )
        return [f"{self.key}={value}" for value in values]


def read_axes(loader: ConfigLoader, overrides: Sequence[str]) -> list[Axis]:
    """Parse overrides; of several for one key the last counts, in the place of the first.

    Raises:
        InputError: One is not an override.
    """
    axes: dict[str, Axis] = {}
    for axis in map(Axis, parse(loader, overrides)):
        axes[axis.key] = axis
    return list(axes.values())


def _require_few(override: Override) -> None:
    """Raise InputError where a range has too many values to be listed."""
    sweep = override.value()
    if not isinstance(sweep, RangeSweep):
        return
    try:
        few = abs(sweep.stop - sweep.start) <= MOST * abs(sweep.step)  # type: ignore[operator]
    except OverflowError:
        few = False
    if not few:
        raise InputError(
            f"'{override.input_line}' has more than {MOST} values: give fewer, or search it with "
            "sweep=optuna and interval(...)"
        )


def require_few(jobs: int) -> None:
    """Raise InputError where a sweep has more than `MOST` jobs."""
    if jobs > MOST:
        raise InputError(f"a sweep may have {MOST} jobs, this one has {jobs}: split it")


def product(values: Mapping[str, Sequence[str]]) -> list[Point]:
    """Return every combination; the last key varies fastest.

    Raises:
        InputError: There are too many.
    """
    require_few(math.prod(map(len, values.values())))
    return [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]


def one_at_a_time(values: Mapping[str, Sequence[str]]) -> list[Point]:
    """Return the first value of every key, then each other value alone."""
    baseline = {key: first for key, (first, *_) in values.items()}
    changes = [{key: value} for key, (_, *others) in values.items() for value in others]
    return [baseline, *({**baseline, **change} for change in changes)]


def together(values: Mapping[str, Sequence[str]]) -> list[Point]:
    """Return the first values of all keys, then all second values, and so on.

    Raises:
        InputError: The keys have different numbers of values.
    """
    if len({len(column) for column in values.values()}) > 1:
        lengths = ", ".join(f"{key} has {len(column)}" for key, column in values.items())
        raise InputError(f"sweep=paired needs as many values for each key: {lengths}")
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
