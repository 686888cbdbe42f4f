"""``sweep=grid``, ``sweep=ablation`` and ``sweep=paired``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stelab.engine.sweepers import ListSweeper
from stelab.engine.sweepers.axes import Axis, Point, one_at_a_time, product, together


class GridSweeper(ListSweeper):
    """Runs every combination of all values; also what a plain ``-m`` does.

    Args:
        params: See `stelab.engine.sweepers.StudySweeper`.
    """

    def __init__(self, *, params: dict[str, Any] | None):
        super().__init__(params=params, replicates=[])

    def points(self, axes: Sequence[Axis]) -> list[Point]:
        """Return every combination."""
        return product({axis.key: axis.overrides() for axis in axes})


class AblationSweeper(ListSweeper):
    """Runs a baseline, of the first values of all keys, and each other value alone.

    Args:
        params: See `stelab.engine.sweepers.StudySweeper`.
        replicates: See there.
    """

    first_is_baseline = True

    def points(self, axes: Sequence[Axis]) -> list[Point]:
        """Return the baseline and the changes."""
        return one_at_a_time({axis.key: axis.overrides() for axis in self.factors(axes)})


class PairedSweeper(ListSweeper):
    """Runs the first values of all keys together, then all second values, and so on.

    Args:
        params: See `stelab.engine.sweepers.StudySweeper`.
        replicates: See there.
    """

    def points(self, axes: Sequence[Axis]) -> list[Point]:
        """Return the pairs."""
        return together({axis.key: axis.overrides() for axis in self.factors(axes)})
