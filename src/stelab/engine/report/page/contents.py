"""What the page's templates are filled with: rows of tables, and what conclusions name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from stelab.engine.comparison import Comparison
from stelab.engine.comparison.conditions import (
    order,
    parse_conditions,
    select,
    write_value,
    written,
)
from stelab.engine.comparison.groups import label, written_replicate
from stelab.engine.report.numbers import count_kinds, counted

Links = Mapping[tuple[str, str], str]
Row = dict[str, Any]
Rows = list[Row]


def result_rows(comparison: Comparison, metric: str) -> Rows:
    """Return a metric's rows, and of each whether it is compared, its verdict and its likes."""
    rows: Rows = comparison.rows(metric).to_dict("records")
    for row in rows:
        improves = (row["difference"] < 0) == (comparison.better_of(metric) == "lower")
        row["compared"] = row["baseline"] not in ("", row["group"])
        row["verdict"] = ("better" if improves else "worse") if row["significant"] else ""
        row["identical"] = ", ".join(_identical(comparison, row["group"]))
    return rows


def _identical(comparison: Comparison, name: str) -> list[str]:
    """Name the groups identical to one by the settings in which they differ from it."""
    settings = {group.label: group.settings for group in comparison.groups}
    return [
        label({key: v for key, v in settings[other].items() if v != settings[name][key]})
        for same in comparison.identical
        if name in same.labels
        for other in same.labels
        if other != name
    ]


def run_rows(comparison: Comparison, links: Links) -> Rows:
    """Return the runs that can be read, each with its state and where its folder is."""
    left_out = comparison.study.left_out
    states = finished_states(comparison)
    states |= dict(zip(_keys(left_out), left_out["state"], strict=True))
    runs = comparison.study.runs.sort_values(["study", "run"], kind="stable")
    return _linked(runs.assign(state=[states[key] for key in _keys(runs)]), links)


def left_out_rows(comparison: Comparison, links: Links) -> Rows:
    """Return what is not compared, what has not begun last, and where it is."""
    left_out = comparison.study.left_out.sort_values(
        ["state", "study", "run"], key=lambda column: column.where(column != "missing", "~")
    )
    return _linked(left_out, links)


def _linked(runs: pd.DataFrame, links: Links) -> Rows:
    rows: Rows = runs.assign(href=[links.get(key, "") for key in _keys(runs)]).to_dict("records")
    return rows


def finished_states(comparison: Comparison) -> dict[tuple[str, str], str]:
    """Map the study and name of finished runs to whether they are compared, or why not."""
    finished = comparison.study.finished
    conditions = parse_conditions(comparison.where, comparison.study.runs, option="where")
    asked = _keys(select(finished, conditions))
    states = dict.fromkeys(_keys(finished), "finished, but left out by where")
    states |= dict.fromkeys(asked, "finished, but its configuration was run again")
    return states | dict.fromkeys(_keys(comparison.runs), "compared")


def _keys(runs: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(runs["study"], runs["run"], strict=True))


def coverage(comparison: Comparison) -> dict[str, Any]:
    """Return how many replicates each pair of values of two keys has, and which it lacks."""
    expected = _replicates(comparison, comparison.study.runs)
    cells = {}
    for group in comparison.groups:
        replicates = _replicates(comparison, group.runs)
        absent = ", ".join(each for each in expected if each not in replicates)
        cells[tuple(group.settings.values())] = (len(replicates), absent)
    rows, columns = (
        sorted({group.settings[key] for group in comparison.groups}, key=order)
        for key in comparison.by
    )
    return {"expected": len(expected), "cells": cells, "rows": rows, "columns": columns}


def _replicates(comparison: Comparison, runs: pd.DataFrame) -> list[str]:
    """Write the replicates of runs, in their order."""
    keys = list(comparison.replicates)
    distinct = runs.dropna(subset=keys).drop_duplicates(keys).sort_values(keys)
    return [written_replicate(row, keys) for _, row in distinct.iterrows()]


def environment(runs: pd.DataFrame, replicates: tuple[str, ...]) -> dict[str, str]:
    """Return with what runs were made: versions, machines, commits, replicates.

    Where they differ, each value comes with the number of runs that have it.
    """
    prefixes = ("versions.", "machine.", "git.")
    texts = {}
    for key in runs.columns:
        values = runs[key].dropna()
        if values.empty or not (key.startswith(prefixes) or key in replicates):
            continue
        counts = Counter(map(write_value, values))
        if absent := len(runs) - len(values):
            counts["none"] = absent
        names = [*written(values), *(["none"] if absent else [])]
        several = [f"{name} ({counted(counts[name], 'run')})" for name in names]
        texts[key] = names[0] if len(counts) == 1 else ", ".join(several)
    return texts


def conclude(comparison: Comparison, rows: Rows) -> dict[str, Any]:
    """Return what the template's sentences name, of the first metric's rows."""
    best, *others = rows
    named = [word.partition("=")[0] for word in comparison.baseline.split()]
    compared = [row for row in rows if row["compared"]]
    verdicts = Counter(_verdict(row) for row in compared)
    second = _runner_up(comparison, best, others)
    return {
        "best": best,
        "second": second,
        "is_tested": any(
            one["baseline"] == two["group"] and not pd.isna(one["p"])
            for one, two in ((best, second), (second, best))
            if second
        ),
        "held": [key for key in comparison.by if key not in named],
        "compared": counted(len(compared), "group") if compared else "",
        "verdicts": count_kinds(verdicts),
        "tests": sum(not pd.isna(row["p"]) for row in compared),
        "states": Counter(finished_states(comparison).values()),
        "states_left_out": Counter(comparison.study.left_out["state"]),
    }


def _runner_up(comparison: Comparison, best: Row, others: Rows) -> Row:
    """Return the second best, which is not identical to the best; empty if there is none."""
    line = comparison.line_of
    for other in others:
        if line[other["group"]] != line[best["group"]] and not pd.isna(other["mean"]):
            return other
    return {}


def _verdict(row: Row) -> str:
    """Say what became of a group that has another one as baseline."""
    if row["significant"]:
        return str(row["verdict"])
    if not pd.isna(row["p"]):
        return "without a significant difference"
    equal = row["pairs"] and row["difference"] == row["difference_low"] == 0
    return "equal in every pair" if equal else "not testable"
