"""``sweep=grid``, ``sweep=ablation``, ``sweep=paired`` and ``sweep=table``."""

from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override

from stelab.arguments import Text
from stelab.engine.config.compose import parse
from stelab.engine.errors import InputError
from stelab.engine.sweepers.base import (
    ListSweeper,
    Point,
    lines_of,
    one_at_a_time,
    overrides_of_axis,
    product,
    values_of,
)


class GridSweeper(ListSweeper):
    """Runs every combination of all values; also what a plain ``-m`` does."""

    def __init__(self, *, params: dict[str, Any] | None):
        super().__init__(params=params, replicates=[])

    def points(self, loader: ConfigLoader, axes: Sequence[Override]) -> list[Point]:
        """Return every combination."""
        return product(values_of(axes))


class AblationSweeper(ListSweeper):
    """Runs a baseline, of the first values of all keys, and each other value alone."""

    first_is_baseline = True

    def points(self, loader: ConfigLoader, axes: Sequence[Override]) -> list[Point]:
        """Return the baseline and the changes."""
        return one_at_a_time(values_of(self.factors(axes)))


class PairedSweeper(ListSweeper):
    """Runs the first values of all keys together, then all second values, and so on."""

    def points(self, loader: ConfigLoader, axes: Sequence[Override]) -> list[Point]:
        """Return the pairs."""
        values = values_of(self.factors(axes))
        if len({len(column) for column in values.values()}) > 1:
            lengths = ", ".join(f"{key} has {len(column)}" for key, column in values.items())
            raise InputError(f"sweep=paired needs as many values for each key: {lengths}")
        return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


class TableSweeper(ListSweeper):
    """Runs the rows of a table, each with every combination of the other keys' values.

    A row is a setting, such as a method with the learning rate it was tuned to. What the command
    line gives a key of the rows chooses among them.
    """

    def __init__(
        self, *, rows: list[dict[str, Any]], params: dict[str, Any] | None, replicates: list[Text]
    ):
        super().__init__(params=params, replicates=replicates)
        self.rows = list(rows)

    def swept(self, loader: ConfigLoader, arguments: Sequence[str]) -> list[str]:
        """Return the keys that take several values, and all of the rows."""
        of_rows = (key for row in self._points(loader) for key in row)
        return list(dict.fromkeys([*of_rows, *super().swept(loader, arguments)]))

    def points(self, loader: ConfigLoader, axes: Sequence[Override]) -> list[Point]:
        """Return the rows that have the values given."""
        points = self._points(loader)
        for axis in axes:
            key = axis.get_key_element()
            having = [point for point in points if key in point]
            if not having:
                continue
            wanted = [parse(loader, line).value() for line in overrides_of_axis(axis)]
            points = [p for p in having if parse(loader, p[key]).value() in wanted]
            if not points:
                known = ", ".join(dict.fromkeys(point[key] for point in having))
                raise InputError(
                    f"'{axis.input_line}' is in no row of sweep=table, which has {known}"
                )
        return points

    def _points(self, loader: ConfigLoader) -> list[Point]:
        """Return the rows; one in which a key has several values is several."""
        if not self.rows:
            raise InputError("sweep=table needs rows: hydra.sweeper.rows=[{estimator: none}, ...]")
        lines = ([parse(loader, line) for line in lines_of(row)] for row in self.rows)
        return [point for row in lines for point in product(values_of(row))]
