"""What the page's tables are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from stelab.comparison.conditions import write_value
from stelab.report.numbers import MISSING, number

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
    """Write a setting's value; numbers are sorted as such."""
    if value is None or pd.isna(value):
        return Cell(MISSING, float("nan"))
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(write_value(value), float(value) if numeric else None)


def measured(name: str, key: str, write: Callable[[float], str] = number) -> Column:
    """Return the column of a number."""
    return Column(name, lambda row: Cell(write(row[key]), float(row[key])), "number")


def text(key: str, kind: Kind = "text") -> Column:
    """Return the column of a text."""
    return Column(key, lambda row: Cell(str(row[key])), kind)


def many(counts: Mapping[str, int]) -> str:
    """Write e.g. ``"31 missing, 1 running"``, most first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {kind}" for kind, count in ordered)


def listed(words: Iterable[str]) -> str:
    """Write e.g. ``"a, b and c"``."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def counted(count: int, noun: str) -> str:
    """Write e.g. ``"1 run"`` or ``"2 runs"``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
