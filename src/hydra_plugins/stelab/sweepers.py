"""``sweep=grid``, ``sweep=ablation`` and ``sweep=paired``."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from stelab.engine.errors import InputError
from stelab.engine.sweepers.base import ListSweeper, Point, one_at_a_time, product, values_of


class GridSweeper(ListSweeper):
    """Runs every combination of all values; also what a plain ``-m`` does."""

    def __init__(self, *, params: dict[str, Any] | None):
        super().__init__(params=params, replicates=[])

    def points(self, axes: Sequence[Override]) -> list[Point]:
        """Return every combination."""
        return product(values_of(axes))


class AblationSweeper(ListSweeper):
    """Runs a baseline, of the first values of all keys, and each other value alone."""

    first_is_baseline = True

    def points(self, axes: Sequence[Override]) -> list[Point]:
        """Return the baseline and the changes."""
        return one_at_a_time(values_of(self.factors(axes)))


class PairedSweeper(ListSweeper):
    """Runs the first values of all keys together, then all second values, and so on."""

    def points(self, axes: Sequence[Override]) -> list[Point]:
        """Return the pairs."""
        values = values_of(self.factors(axes))
        if len({len(column) for column in values.values()}) > 1:
            lengths = ", ".join(f"{key} has {len(column)}" for key, column in values.items())
            raise InputError(f"sweep=paired needs as many values for each key: {lengths}")
        return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
