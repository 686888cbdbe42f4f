"""A table as wide as the terminal: what matters least gives way first."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from stelab.engine.report.console import coloured
from stelab.engine.report.table import Column

_MEASURED = 10_000  # wider than any table


@dataclass(frozen=True)
class _Laid:
    """A column with its cells, and those that went below them."""

    column: Column
    name: str
    cells: Sequence[Text]


def print_table(
    columns: Sequence[Column], rows: Sequence[Any], console: Console, *, title: str | None = None
) -> None:
    """Print a table that is `fitted`."""
    console.print(fitted(columns, rows, console, title=title), crop=False)


def fitted(
    columns: Sequence[Column], rows: Sequence[Any], console: Console, *, title: str | None = None
) -> Table:
    """Lay a table out so that it fits the terminal; a file or a pipe gets the whole table.

    Columns that say nothing are left out. Where no layout fits, the terminal breaks the lines of
    the narrowest: nothing is lost.
    """

    def table_of(columns: Sequence[_Laid], most: int) -> Table:
        table = _table(columns, most, title)
        options = console.options.update_width(_MEASURED)
        table.width = Measurement.get(console, options, table).maximum
        return table

    def fits(table: Table) -> bool:
        return not console.is_terminal or (table.width or 0) <= console.width

    shown = [_lay(column, rows) for column in columns if column.on != "page"]
    for layout in _layouts([laid for laid in shown if any(laid.cells)]):
        if fits(table := table_of(layout, _MEASURED)):
            return table
    least = min((laid.column.least for laid in layout if laid.column.least), default=1)
    # The widest that fits, by halves: of ten thousand rows each look takes a second.
    folds = range(least, max(console.width, least + 1))
    first = bisect_left(folds, True, key=lambda most: not fits(table_of(layout, most)))
    return table_of(layout, folds[max(first - 1, 0)])


def _lay(column: Column, rows: Sequence[Any]) -> _Laid:
    cells = [column.cell(row) for row in rows]
    return _Laid(column, column.name, [coloured(cell.text, cell.colour) for cell in cells])


def _layouts(columns: Sequence[_Laid]) -> Iterator[Sequence[_Laid]]:
    """Yield ever narrower columns."""
    yield columns
    for turn in sorted({laid.column.turn for laid in columns} - {0}):
        columns = _give_way(columns, turn)
        yield columns


def _give_way(columns: Sequence[_Laid], turn: int) -> list[_Laid]:
    kept: list[_Laid] = []
    for laid in columns:
        if laid.column.turn != turn:
            kept.append(laid)
        elif laid.column.below:
            above = kept.pop()
            pairs = zip(above.cells, laid.cells, strict=True)
            cells = [Text("\n").join(pair) for pair in pairs]
            kept.append(replace(above, name=f"{above.name}\n{laid.name}", cells=cells))
    return kept


def _table(columns: Sequence[_Laid], most: int, title: str | None) -> Table:
    several_lines = any("\n" in laid.name for laid in columns)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, leading=int(several_lines))
    for laid in columns:
        least = laid.column.least
        table.add_column(
            laid.name,
            justify="right" if laid.column.kind == "number" else "left",
            max_width=max(most, least) if least else None,
            overflow="fold",
        )
    for cells in zip(*(laid.cells for laid in columns), strict=True):
        table.add_row(*cells)
    return table
