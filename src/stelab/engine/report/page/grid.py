"""What was swept: the keys, their values, and which combinations have runs."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from stelab.engine.comparison import Comparison
from stelab.engine.comparison.conditions import order, written
from stelab.engine.comparison.groups import Group, written_replicate
from stelab.engine.report.table import Cell, Column, Row, Table, setting_cell, text

Cells = dict[tuple[Any, Any], Cell]


def key_table(comparison: Comparison) -> Table:
    """Return the swept keys with their values in all runs that can be read."""
    runs = comparison.study.runs
    rows = [{"key": key, "values": ", ".join(written(runs[key]))} for key in comparison.study.swept]
    columns = [text("key", "head"), text("values", "prose")]
    caption = "Settings in which the runs differ, and their values"
    return Table("keys", caption, columns, rows, sortable=False)


def coverage_table(comparison: Comparison) -> Table | None:
    """Return how many replicates each combination of two keys has; None for more or fewer keys."""
    if len(comparison.by) != 2:
        return None
    down, across = comparison.by
    expected = _replicates(comparison, comparison.study.runs)
    cells = {
        (group.settings[down], group.settings[across]): _cell(comparison, group, expected)
        for group in comparison.groups
    }
    columns = [Column(down, lambda row: setting_cell(row["value"]), "head")]
    columns += [
        Column(f"{across}={setting_cell(value).text}", partial(_pick, cells, value))
        for value in _values(comparison, across)
    ]
    caption = f"Replicates compared, of {len(expected)}, by {down} and {across}"
    rows = [{"value": value} for value in _values(comparison, down)]
    return Table("coverage", caption, columns, rows, sortable=False)


def _pick(cells: Cells, across: Any, row: Row) -> Cell:
    return cells.get((row["value"], across), Cell("none"))


def _cell(comparison: Comparison, group: Group, expected: list[str]) -> Cell:
    """Count a group's replicates, and name those that others have."""
    found = _replicates(comparison, group.runs)
    absent = ", ".join(replicate for replicate in expected if replicate not in found)
    keys = ", ".join(comparison.replicates)
    marks = {"absent": f"without {keys} {absent}"} if absent else {}
    return Cell(f"{len(found)} of {len(expected)}", marks=marks)


def _replicates(comparison: Comparison, runs: pd.DataFrame) -> list[str]:
    """Write the replicates of runs, in their order."""
    keys = list(comparison.replicates)
    distinct = runs.dropna(subset=keys).drop_duplicates(keys).sort_values(keys)
    return [written_replicate(row, keys) for _, row in distinct.iterrows()]


def _values(comparison: Comparison, key: str) -> list[Any]:
    """Return the values of a key in the groups, in their order."""
    return sorted({group.settings[key] for group in comparison.groups}, key=order)
