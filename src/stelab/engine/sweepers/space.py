"""What Optuna may choose from, in Hydra's grammar of overrides and in Optuna's terms."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, RangeSweep, Sweep

from stelab.engine.errors import InputError
from stelab.engine.sweepers.axes import Axis, Point, one_at_a_time, product

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class Dimension(ABC):
    """What one key may be.

    Attributes:
        key: The key, as it is written.
    """

    key: str

    @abstractmethod
    def values(self) -> Sequence[Any] | None:
        """Return all its values, as Optuna has them; None where they are a continuum."""

    @abstractmethod
    def ends(self) -> Sequence[Any]:
        """Return values that stand for all."""

    @abstractmethod
    def distribution(self) -> BaseDistribution:
        """Return Optuna's distribution."""

    @abstractmethod
    def text(self, value: Any) -> str:
        """Return a value as it is written in an override."""

    def override(self, value: Any) -> str:
        """Return the override that sets a value."""
        return f"{self.key}={self.text(value)}"


@dataclass(frozen=True)
class Choice(Dimension):
    """One of some values, kept as they are written."""

    key: str
    texts: tuple[str, ...]

    def values(self) -> Sequence[str]:
        """Return all its values."""
        return self.texts

    ends = values

    def distribution(self) -> BaseDistribution:
        """Return Optuna's distribution."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.texts)

    def text(self, value: str) -> str:
        """Return the value."""
        return value


@dataclass(frozen=True)
class Numbers(Dimension):
    """Numbers from `low` to `high`, both included.

    Attributes:
        step: Between two of them; None: a continuum.
        log: Whether each factor, not each difference, is as likely.
    """

    key: str
    low: float
    high: float
    step: float | None
    log: bool

    def values(self) -> Sequence[float] | None:
        """Return all its values."""
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

    def text(self, value: float) -> str:
        """Return all digits."""
        return repr(value)


def read_dimension(axis: Axis) -> Dimension:
    """Read what a swept key may be.

    Raises:
        InputError: The range is empty, or is tagged with what it cannot be.
    """
    sweep, line = axis.override.value(), axis.override.input_line
    tags = sweep.tags if isinstance(sweep, Sweep) else set[str]()
    log = "log" in tags
    if tags - {"log"}:
        raise InputError(f"'{line}' has the tag {min(tags - {'log'})}; the only one is log")
    if isinstance(sweep, IntervalSweep):
        assert sweep.start is not None and sweep.end is not None
        step = 1 if isinstance(sweep.start, int) else None
        numbers = Numbers(axis.key, sweep.start, sweep.end, step, log)
    elif isinstance(sweep, RangeSweep):
        axis.overrides()  # refuses an empty range
        values = sorted(sweep.range())
        numbers = Numbers(axis.key, values[0], values[-1], abs(sweep.step), log)
        numbers = replace(numbers, high=(numbers.values() or values)[-1])
    else:
        if log:
            raise InputError(f"'{line}' is a list, which takes no tag(log, ...)")
        prefix = f"{axis.key}="
        return Choice(axis.key, tuple(o.removeprefix(prefix) for o in axis.overrides()))
    _check(numbers, line)
    return numbers


def _check(numbers: Numbers, line: str | None) -> None:
    if not (math.isfinite(numbers.low) and math.isfinite(numbers.high)):
        raise InputError(f"'{line}' must have finite ends")
    if numbers.low > numbers.high:
        raise InputError(f"'{line}' must go from the lower to the higher end")
    if numbers.log and numbers.low <= 0:
        raise InputError(f"'{line}' is tagged log, so it must begin above 0")
    if numbers.log and numbers.step not in (None, 1):
        raise InputError(f"'{line}' is tagged log, so it takes no step: use interval(...)")


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
    """What a command line lets Optuna choose, and what it fixes.

    Attributes:
        space: What is searched.
        replicates: The points of what is not: the combinations of the replicate keys.
        order: All keys, as they were given.
    """

    space: list[Dimension]
    replicates: list[Point]
    order: list[str]

    @classmethod
    def of(cls, axes: Sequence[Axis], searched: Sequence[Axis]) -> Search:
        """Read a command line.

        Raises:
            InputError: A key has no values, or such as cannot be searched.
        """
        space = [read_dimension(axis) for axis in searched]
        rest = {axis.key: axis.overrides() for axis in axes if axis not in searched}
        return cls(space, product(rest), [axis.key for axis in axes])

    def jobs(self, chosen: Point, *more: str) -> list[list[str]]:
        """Return the overrides of all replicates of a point, the first one with some more."""
        points = [{**chosen, **replicate} for replicate in self.replicates]
        first, *others = [[each[key] for key in self.order] for each in points]
        return [[*first, *more], *others]

    def examples(self) -> list[list[str]]:
        """Return jobs that stand for all: each choice, both ends of each range, one at a time."""
        ends = {dim.key: [dim.override(value) for value in dim.ends()] for dim in self.space}
        return [self.jobs(chosen)[0] for chosen in one_at_a_time(ends)]
