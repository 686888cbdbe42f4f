"""A table as wide as the terminal: what matters least gives way first."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from stelab.engine.report.console import coloured
from stelab.engine.report.numbers import number, setting_text

Row = Mapping[str, Any]

_MEASURED = 10_000  # wider than any table


@dataclass(frozen=True)
class Column:
    """One column, and what becomes of it in a narrow terminal.

    Attributes:
        name: Its heading.
        write: How a row's cell in it is written: a text, or a text and its colour.
        kind: Numbers stand on the right.
        turn: When it gives way: 1 first, those of one turn together; 0: it stays.
        below: Whether its cells then go below those of the column on its left, else away.
        least: The characters to which it is folded when all others have given way; 0: never.
    """

    name: str
    write: Callable[[Any], str | tuple[str, str]]
    kind: Literal["text", "number"] = "text"
    turn: int = 0
    below: bool = False
    least: int = 0


def setting(key: str, **options: Any) -> Column:
    """Return the column of a setting, written as on the command line."""
    return Column(key, lambda row: setting_text(row[key]), **options)


def measured(name: str, key: str, write: Callable[[float], str] = number, **options: Any) -> Column:
    """Return the column of a number."""
    return Column(name, lambda row: write(row[key]), "number", **options)


@dataclass(frozen=True)
class _Filled:
    """A column with its heading and its cells, those that went below them included."""

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

    def table_of(columns: Sequence[_Filled], most: int = _MEASURED) -> Table:
        table = _table(columns, most, title)
        options = console.options.update_width(_MEASURED)
        table.width = Measurement.get(console, options, table).maximum
        return table

    def fits(table: Table) -> bool:
        return not console.is_terminal or (table.width or 0) <= console.width

    filled = [_Filled(column, column.name, _cells(column, rows)) for column in columns]
    for layout in _layouts([each for each in filled if any(each.cells)]):
        if fits(table := table_of(layout)):
            return table
    least = min((each.column.least for each in layout if each.column.least), default=1)
    # The widest that fits, by halves: of ten thousand rows each look takes a second.
    folds = range(least, max(console.width, least + 1))
    first = bisect_left(folds, True, key=lambda most: not fits(table_of(layout, most)))
    return table_of(layout, folds[max(first - 1, 0)])


def _cells(column: Column, rows: Sequence[Any]) -> list[Text]:
    cells = [column.write(row) for row in rows]
    return [coloured(cell, "") if isinstance(cell, str) else coloured(*cell) for cell in cells]


def _layouts(columns: Sequence[_Filled]) -> Iterator[Sequence[_Filled]]:
    """Yield ever narrower columns: those of a turn go below their left neighbour, or away."""
    yield columns
    for turn in sorted({filled.column.turn for filled in columns} - {0}):
        kept: list[_Filled] = []
        for filled in columns:
            if filled.column.turn != turn:
                kept.append(filled)
            elif filled.column.below:
                above = kept.pop()
                pairs = zip(above.cells, filled.cells, strict=True)
                cells = [Text("\n").join(pair) for pair in pairs]
                kept.append(_Filled(above.column, f"{above.name}\n{filled.name}", cells))
        columns = kept
        yield columns


def _table(columns: Sequence[_Filled], most: int, title: str | None) -> Table:
    several_lines = any("\n" in filled.name for filled in columns)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, leading=int(several_lines))
    for filled in columns:
        least = filled.column.least
        table.add_column(
            filled.name,
            justify="right" if filled.column.kind == "number" else "left",
            max_width=max(most, least) if least else None,
            overflow="fold",
        )
    for cells in zip(*(filled.cells for filled in columns), strict=True):
        table.add_row(*cells)
    return table
