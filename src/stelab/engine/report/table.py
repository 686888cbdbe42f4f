"""Tables, described once: the page and the terminal write the same columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from stelab.engine.report.numbers import number, setting_text

Row = Mapping[str, Any]
Kind = Literal["head", "text", "prose", "number", "code"]


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: What is read.
        number: What the page sorts by where it is a number; NaN sorts last.
        href: Where the text leads on the page; empty: nowhere.
        marks: Remarks beside the text on the page, by their kind.
        colour: Of the text in the terminal.
    """

    text: str
    number: float | None = None
    href: str = ""
    marks: Mapping[str, str] = field(default_factory=dict)
    colour: str = ""


@dataclass(frozen=True)
class Column:
    """One column, and what becomes of it in a narrow terminal.

    Attributes:
        name: Its heading.
        write: How a row's cell in it is written.
        kind: Cells of ``"head"`` name their row, those of ``"prose"`` have several lines on the
            page, those of ``"number"`` stand on the right.
        on: Where it is shown.
        turn: When it gives way: 1 first, those of one turn together; 0: it stays.
        below: Whether its cells then go below those of the column on its left, else away.
        least: The characters to which it is folded when all others have given way; 0: never.
    """

    name: str
    write: Callable[[Any], Cell | str]
    kind: Kind = "text"
    on: Literal["both", "page", "terminal"] = "both"
    turn: int = 0
    below: bool = False
    least: int = 0

    def cell(self, row: Any) -> Cell:
        """Return a row's cell."""
        written = self.write(row)
        return written if isinstance(written, Cell) else Cell(written)


@dataclass(frozen=True)
class Table:
    """A table of the page: how it is called, and its columns of its rows.

    Attributes:
        name: Short, distinct on the page.
        caption: What it shows.
        columns: In their order.
        rows: What the columns make cells of.
        sortable: Whether readers can sort and filter it.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    sortable: bool = True


def setting(key: str, kind: Kind = "head", **options: Any) -> Column:
    """Return the column of a setting, written as on the command line."""
    return Column(key, lambda row: setting_cell(row[key]), kind, **options)


def setting_cell(value: Any) -> Cell:
    """Write a setting's value; numbers are sorted as such, and what is missing comes last."""
    if value is None or pd.isna(value):
        return Cell(setting_text(value), float("nan"))
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(setting_text(value), float(value) if numeric else None)


def measured(name: str, key: str, write: Callable[[float], str] = number, **options: Any) -> Column:
    """Return the column of a number."""
    return Column(name, lambda row: Cell(write(row[key]), float(row[key])), "number", **options)


def text(key: str, kind: Kind = "text", **options: Any) -> Column:
    """Return the column of a text."""
    return Column(key, lambda row: str(row[key]), kind, **options)
