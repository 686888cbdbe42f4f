"""A table as wide as the terminal: what matters least gives way first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_MEASURED = 10_000  # wider than any table


@dataclass(frozen=True)
class Column:
    """A column, and what becomes of it in a narrow terminal.

    Attributes:
        name: Its heading.
        cells: One a row, with rich's markup.
        left: Whether its cells stand on the left.
        turn: When it gives way: 1 first, those of one turn together; 0: it stays.
        below: Whether its cells then go below those of the column on its left, else away.
        least: The characters to which it is folded when all others have given way; 0: never.
    """

    name: str
    cells: Sequence[str]
    left: bool = False
    turn: int = 0
    below: bool = False
    least: int = 0


def print_table(columns: Sequence[Column], console: Console, *, title: str | None = None) -> None:
    """Print the first layout that fits the terminal; a file or a pipe gets the whole table.

    Where none fits, the terminal breaks the lines of the narrowest: nothing is lost.
    """
    for layout, most in _layouts(columns):
        table = _table(layout, most, title)
        options = console.options.update_width(_MEASURED)
        table.width = Measurement.get(console, options, table).maximum
        if table.width <= console.width or not console.is_terminal:
            break
    console.print(table, crop=False)


def _layouts(columns: Sequence[Column]) -> Iterator[tuple[Sequence[Column], int]]:
    """Yield ever narrower columns, and to how many characters some are folded."""
    yield columns, _MEASURED
    for turn in sorted({column.turn for column in columns} - {0}):
        columns = _give_way(columns, turn)
        yield columns, _MEASURED
    folded = [column for column in columns if column.least]
    longest = max((len(text) for c in folded for text in (c.name, *c.cells)), default=0)
    for most in range(longest, min((c.least for c in folded), default=1) - 1, -1):
        yield columns, most


def _give_way(columns: Sequence[Column], turn: int) -> list[Column]:
    kept: list[Column] = []
    for column in columns:
        if column.turn != turn:
            kept.append(column)
        elif column.below:
            above = kept.pop()
            pairs = zip(above.cells, column.cells, strict=True)
            cells = [f"{one}\n{other}" for one, other in pairs]
            kept.append(replace(above, name=f"{above.name}\n{column.name}", cells=cells))
    return kept


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
