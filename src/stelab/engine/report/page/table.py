"""What the page's tables are made of."""

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
        number: What is sorted by where it is a number; NaN sorts last.
        href: Where the text leads; empty: nowhere.
        marks: Remarks beside the text, by their kind.
    """

    text: str
    number: float | None = None
    href: str = ""
    marks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """One column: its name, how a row's cell in it is made, and what kind it is.

    Cells of the kind ``"head"`` name their row, those of ``"prose"`` have several lines.
    """

    name: str
    cell: Callable[[Row], Cell]
    kind: Kind = "text"


@dataclass(frozen=True)
class Table:
    """A table: how it is called, and its columns of its rows.

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


def setting(key: str, *, kind: Kind = "head") -> Column:
    """Return the column of a setting, written as on the command line."""
    return Column(key, lambda row: setting_cell(row[key]), kind)


def setting_cell(value: Any) -> Cell:
    """Write a setting's value; numbers are sorted as such, and what is missing comes last."""
    if value is None or pd.isna(value):
        return Cell(setting_text(value), float("nan"))
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(setting_text(value), float(value) if numeric else None)


def measured(name: str, key: str, write: Callable[[float], str] = number) -> Column:
    """Return the column of a number."""
    return Column(name, lambda row: Cell(write(row[key]), float(row[key])), "number")


def text(key: str, kind: Kind = "text") -> Column:
    """Return the column of a text."""
    return Column(key, lambda row: Cell(str(row[key])), kind)
