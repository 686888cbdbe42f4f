"""The terminal: sentences and tables, shown as text whoever wrote them, and as wide as it is."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from stelab.engine.terminal import visible

_UNBOUNDED = 10_000  # characters: wider than any table


class PlainConsole(Console):
    """A terminal that takes nothing for markup, emoji or escape codes: runs come from anybody."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as it stands, with what a terminal would obey as escapes."""
        return super().render_str(visible(text), **options)

    def say(self, text: str, *, colour: str = "") -> None:
        """Print a sentence; a terminal gets it wrapped, a file or a pipe on one line."""
        self.print(coloured(text, colour), soft_wrap=not self.is_terminal)


def console() -> PlainConsole:
    """Return the terminal; a file or a pipe gets whole tables, however wide."""
    terminal = PlainConsole()
    return terminal if terminal.is_terminal else PlainConsole(width=200)


def coloured(text: str, colour: str = "") -> Text:
    """Return a text in a colour, also for a cell of a table."""
    return Text(visible(text), style=colour)


@dataclass(frozen=True)
class Column:
    """One column, and what becomes of it in a narrow terminal."""

    name: str
    write: Callable[[Any], str | tuple[str, str]]  # of a row: a text, or a text and its colour
    kind: Literal["text", "number"] = "text"  # numbers stand on the right
    turn: int = 0  # when it gives way: 1 first, those of one turn together; 0: it stays
    below: bool = False  # it then goes below its left neighbour, else away
    least: int = 0  # characters to which it folds when all others have given way; 0: never


Filled = tuple[Column, Sequence[Text]]  # with its cells, and those that went below them


def print_table(
    columns: Sequence[Column], rows: Sequence[Any], console: Console, *, title: str | None = None
) -> None:
    """Print a table that is `fitted`."""
    console.print(fitted(columns, rows, console, title=title), crop=False)


def fitted(
    columns: Sequence[Column], rows: Sequence[Any], console: Console, *, title: str | None = None
) -> Table:
    """Lay a table out to fit the terminal, without empty columns; a pipe gets all of it."""

    def fits(table: Table) -> bool:
        return not console.is_terminal or (table.width or 0) <= console.width

    filled: list[Filled] = []
    for column in columns:
        written = [column.write(row) for row in rows]
        cells = [coloured(cell) if isinstance(cell, str) else coloured(*cell) for cell in written]
        if any(cells):
            filled.append((column, cells))
    for layout in _layouts(filled):
        if fits(table := _table(layout, console, title)):
            return table
    least = min((column.least for column, _ in layout if column.least), default=1)
    # The widest that fits, by halves: each try takes a second where there are ten thousand rows.
    folds = range(least, max(console.width, least + 1))
    first = bisect_left(
        folds, True, key=lambda most: not fits(_table(layout, console, title, most))
    )
    return _table(layout, console, title, folds[max(first - 1, 0)])


def _layouts(columns: Sequence[Filled]) -> Iterator[Sequence[Filled]]:
    """Yield ever narrower columns: those of a turn go below their left neighbour, or away."""
    yield columns
    for turn in sorted({column.turn for column, _ in columns} - {0}):
        kept: list[Filled] = []
        for column, cells in columns:
            if column.turn != turn:
                kept.append((column, cells))
            elif column.below:
                above, above_cells = kept.pop()
                texts = [Text("\n").join(pair) for pair in zip(above_cells, cells, strict=True)]
                kept.append((replace(above, name=f"{above.name}\n{column.name}"), texts))
        columns = kept
        yield columns


def _table(
    columns: Sequence[Filled], console: Console, title: str | None, most: int = _UNBOUNDED
) -> Table:
    """Lay a table out as wide as its cells are, but for the columns that fold to `most`."""
    leading = int(any("\n" in column.name for column, _ in columns))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, leading=leading)
    for column, _ in columns:
        table.add_column(
            column.name,
            justify="right" if column.kind == "number" else "left",
            max_width=max(most, column.least) if column.least else None,
            overflow="fold",
        )
    for cells in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*cells)
    options = console.options.update_width(_UNBOUNDED)
    table.width = Measurement.get(console, options, table).maximum
    return table
