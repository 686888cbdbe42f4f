"""What Optuna may choose from, in Hydra's grammar of overrides and in Optuna's terms.

The name of an Optuna study is a hash of how these dimensions are written (their `repr`): classes
and fields keep their names, or a search that was begun would not be continued.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Sweep

from stelab.engine.errors import InputError
from stelab.engine.sweepers.base import Point, one_at_a_time, overrides_of_axis

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Choice:
    """One of some values of a key, kept as they are written."""

    key: str
    texts: tuple[str, ...]

    def values(self) -> Sequence[str]:
        """Return all values, as Optuna has them, none of which stands for others."""
        return self.texts

    ends = values

    def distribution(self) -> BaseDistribution:
        """Return Optuna's distribution."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.texts)

    def override(self, value: Any) -> str:
        """Return the override that sets a value."""
        return f"{self.key}={value}"


@dataclass(frozen=True)
class Numbers:
    """Numbers from `low` to `high`, both included, that a key may be."""

    key: str
    low: float
    high: float
    step: float | None  # None: a continuum
    log: bool  # whether each factor, not each difference, is as likely

    def values(self) -> Sequence[float] | None:
        """Return all values, as Optuna has them; None where they are a continuum."""
        if self.step is None:
            return None
        count = round((self.high - self.low) / self.step) + 1
        if isinstance(self.low, int) and isinstance(self.step, int):
            return range(self.low, self.low + count * self.step, self.step)
        # In decimals, as Hydra and Optuna count: 0.1, 0.2, 0.3 instead of 0.30000000000000004.
        low, step = Decimal(str(self.low)), Decimal(str(self.step))
        return [float(low + i * step) for i in range(count)]

    def ends(self) -> Sequence[float]:
        """Return the least and the greatest."""
        return [self.low, self.high]

    def distribution(self) -> BaseDistribution:
        """Return Optuna's distribution."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if isinstance(self.low, int) and isinstance(self.step, int):
            return IntDistribution(self.low, int(self.high), log=self.log, step=self.step)
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def override(self, value: Any) -> str:
        """Return the override that sets a value, with all its digits."""
        return f"{self.key}={value!r}"


Dimension = Choice | Numbers


def read_dimension(axis: Override) -> Dimension:
    """Read what a swept key may be."""
    sweep, line, key = axis.value(), axis.input_line, axis.get_key_element()
    tags = sweep.tags if isinstance(sweep, Sweep) else set[str]()
    log = "log" in tags
    if tags - {"log"}:
        raise InputError(f"'{line}' has the tag {min(tags - {'log'})}; the only one is log")
    if isinstance(sweep, IntervalSweep):
        assert sweep.start is not None and sweep.end is not None
        step = 1 if isinstance(sweep.start, int) else None
        numbers = Numbers(key, sweep.start, sweep.end, step, log)
    elif isinstance(sweep, RangeSweep):
        overrides_of_axis(axis)  # refuses an empty range
        values = sorted(sweep.range())
        numbers = Numbers(key, values[0], values[-1], abs(sweep.step), log)
        numbers = replace(numbers, high=(numbers.values() or values)[-1])
    else:
        if log:
            raise InputError(f"'{line}' is a list, which takes no tag(log, ...)")
        return Choice(key, tuple(o.removeprefix(f"{key}=") for o in overrides_of_axis(axis)))
    if not (math.isfinite(numbers.low) and math.isfinite(numbers.high)):
        raise InputError(f"'{line}' must have finite ends")
    if numbers.low > numbers.high:
        raise InputError(f"'{line}' must go from the lower to the higher end")
    if log and numbers.low <= 0:
        raise InputError(f"'{line}' is tagged log, so it must begin above 0")
    if log and numbers.step not in (None, 1):
        raise InputError(f"'{line}' is tagged log, so it takes no step: use interval(...)")
    return numbers


def size(space: Sequence[Dimension]) -> float:
    """Return how many points a space has; inf for a continuum."""
    return math.prod(math.inf if (v := dim.values()) is None else len(v) for dim in space)


def point(space: Sequence[Dimension], index: int) -> dict[str, Any]:
    """Return one of the points of a finite space, as Optuna has it."""
    chosen = {}
    for dim in reversed(space):
        values = dim.values() or ()
        index, place = divmod(index, len(values))
        chosen[dim.key] = values[place]
    return chosen


@dataclass(frozen=True)
class Search:
    """What a command line lets Optuna choose, and what it fixes."""

    space: list[Dimension]
    replicates: list[Point]  # the combinations of what is not searched
    order: list[str]  # of all keys, as they were given

    def count(self, n_trials: int) -> int:
        """Return how many jobs so many trials have at most."""
        return int(min(n_trials, size(self.space))) * len(self.replicates)

    def jobs(self, chosen: Point, *more: str) -> list[list[str]]:
        """Return the overrides of all replicates of a point, the first one with some more."""
        points = [{**chosen, **replicate} for replicate in self.replicates]
        first, *others = [[values[key] for key in self.order] for values in points]
        return [[*first, *more], *others]

    def examples(self) -> list[list[str]]:
        """Return jobs that stand for all: each choice, both ends of each range, one at a time."""
        ends = {dim.key: [dim.override(value) for value in dim.ends()] for dim in self.space}
        return [self.jobs(chosen)[0] for chosen in one_at_a_time(ends)]

    def title(self, job: Sequence[str]) -> str:
        """Name a job by what is searched and, where there are several, its replicate."""
        searched = {dimension.key for dimension in self.space}
        shared = set.intersection(*(set(point.values()) for point in self.replicates))
        swept = [o for o in job if o.partition("=")[0] in searched or o not in shared]
        return " ".join(o for o in swept if not o.startswith("trial="))
