"""A table as wide as the terminal: what matters least gives way first."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from stelab.engine.report.console import coloured

_MEASURED = 10_000  # wider than any table


@dataclass(frozen=True)
class Column:
    """A column, and what becomes of it in a narrow terminal.

    Attributes:
        name: Its heading.
        cells: One a row.
        left: Whether its cells stand on the left.
        turn: When it gives way: 1 first, those of one turn together; 0: it stays.
        below: Whether its cells then go below those of the column on its left, else away.
        least: The characters to which it is folded when all others have given way; 0: never.
    """

    name: str
    cells: Sequence[str | Text]
    left: bool = False
    turn: int = 0
    below: bool = False
    least: int = 0


def print_table(columns: Sequence[Column], console: Console, *, title: str | None = None) -> None:
    """Print `fitted` columns."""
    console.print(fitted(columns, console, title=title), crop=False)


def fitted(columns: Sequence[Column], console: Console, *, title: str | None = None) -> Table:
    """Lay a table out so that it fits the terminal; a file or a pipe gets the whole table.

    Where no layout fits, the terminal breaks the lines of the narrowest: nothing is lost.
    """

    def table_of(columns: Sequence[Column], most: int) -> Table:
        table = _table(columns, most, title)
        options = console.options.update_width(_MEASURED)
        table.width = Measurement.get(console, options, table).maximum
        return table

    def fits(table: Table) -> bool:
        return not console.is_terminal or (table.width or 0) <= console.width

    for layout in _layouts(columns):
        if fits(table := table_of(layout, _MEASURED)):
            return table
    least = min((column.least for column in layout if column.least), default=1)
    # The widest that fits, by halves: of ten thousand rows each look takes a second.
    folds = range(least, max(console.width, least + 1))
    first = bisect_left(folds, True, key=lambda most: not fits(table_of(layout, most)))
    return table_of(layout, folds[max(first - 1, 0)])


def _layouts(columns: Sequence[Column]) -> Iterator[Sequence[Column]]:
    """Yield ever narrower columns."""
    yield columns
    for turn in sorted({column.turn for column in columns} - {0}):
        columns = _give_way(columns, turn)
        yield columns


def _give_way(columns: Sequence[Column], turn: int) -> list[Column]:
    kept: list[Column] = []
    for column in columns:
        if column.turn != turn:
            kept.append(column)
        elif column.below:
            above = kept.pop()
            pairs = zip(above.cells, column.cells, strict=True)
            cells = [_stacked(one, other) for one, other in pairs]
            kept.append(replace(above, name=f"{above.name}\n{column.name}", cells=cells))
    return kept


def _stacked(above: str | Text, below: str | Text) -> Text:
    parts = (coloured(part, "") if isinstance(part, str) else part for part in (above, below))
    return Text("\n").join(parts)


def _table(columns: Sequence[Column], most: int, title: str | None) -> Table:
    several_lines = any("\n" in column.name for column in columns)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, leading=int(several_lines))
    for column in columns:
        table.add_column(
            column.name,
            justify="left" if column.left else "right",
            max_width=max(most, column.least) if column.least else None,
            overflow="fold",
        )
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*cells)
    return table
