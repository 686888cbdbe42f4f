"""The table of the groups, a metric each: on the page and in the terminal."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from stelab.engine.comparison import Comparison
from stelab.engine.comparison.compare import Better
from stelab.engine.comparison.groups import label
from stelab.engine.report.numbers import MISSING, interval, number, p_value, percent
from stelab.engine.report.table import Cell, Column, Row, Table, measured, setting, text

SHORTEST_NAME = 12
"""Characters to which the names of settings are folded in a narrow terminal, at the least."""

signed = partial(number, sign=True)


def result_table(comparison: Comparison, metric: str) -> Table:
    """Return the page's table of the groups."""
    columns = result_columns(comparison, metric)
    return Table(
        name=f"results-{metric.replace('/', '-')}",
        caption=_caption(comparison, metric),
        columns=[column for column in columns if column.on != "terminal"],
        rows=comparison.rows(metric).to_dict("records"),
    )


def result_columns(comparison: Comparison, metric: str) -> list[Column]:
    """Return what is told of a group: n, mean, spread, interval, difference to the baseline.

    In the terminal settings, means and differences give way last, and where no group has an
    interval there are no columns of them.
    """
    rows = comparison.rows(metric)
    level = f"{percent(comparison.confidence)} interval"
    spread: Any = {"on": "both" if rows["low"].notna().any() else "page"}
    verdict = partial(_verdict, comparison, comparison.better_of(metric))
    columns = [
        *_settings(comparison),
        # The verdict stands where every window shows it, whatever numbers follow.
        Column("verdict", verdict, on="page"),
        measured("n", "n", str),
        measured("mean", "mean", on="page"),
        Column(metric, _mean, "number", on="terminal"),
        measured("sd", "std", on="page"),
        Column(level, _interval, "number", turn=4, below=True, **spread),
    ]
    if not comparison.baseline:
        return columns
    unpaired = any(row["pairs"] != row["n"] for _, row in rows.iterrows() if _is_compared(row))
    return [
        *columns,
        measured("difference", "difference", signed, on="page"),
        Column("difference", _starred, "number", on="terminal"),
        Column(f"its {level}", _difference_interval, "number", turn=4, below=True, **spread),
        *([Column("pairs", _pairs, "number", on="page")] if unpaired else []),
        measured("d_z", "effect_size", signed, turn=3, **spread),
        measured("p", "p", p_value, on="page"),
        measured("p (Holm)", "p_holm", p_value, **spread),
    ]


def _settings(comparison: Comparison) -> list[Column]:
    least: Any = {"least": SHORTEST_NAME}
    if not comparison.by:
        return [text("group", "head", **least)]
    first, *others = comparison.by
    below = [setting(key, turn=5, below=True, **least) for key in others]
    return [setting(first, **least), *below]


def _mean(row: Row) -> str:
    return number(row["mean"]) + (" (selected)" if row["selected"] else "")


def _starred(row: Row) -> str:
    if row["baseline"] == row["group"]:
        return "baseline"
    return signed(row["difference"]) + (" *" if row["significant"] else "")


def _interval(row: Row) -> Cell:
    low, high, n = row["low"], row["high"], row["n"]
    return Cell(interval(low, high, n=n) if n else MISSING, low)


def _difference_interval(row: Row) -> Cell:
    low, high, pairs = row["difference_low"], row["difference_high"], row["pairs"]
    if not _is_compared(row):
        return Cell(MISSING, low)
    return Cell(interval(low, high, n=pairs, sign=True) if pairs else "no pair", low)


def _pairs(row: Row) -> Cell:
    return Cell(str(row["pairs"]), row["pairs"]) if _is_compared(row) else Cell(MISSING, math.nan)


def _is_compared(row: Row) -> bool:
    return bool(row["baseline"]) and row["baseline"] != row["group"]


def _verdict(comparison: Comparison, better: Better, row: Row) -> Cell:
    marks: dict[str, str] = {}
    if row["baseline"] == row["group"]:
        marks["baseline"] = "baseline"
    if row["selected"]:
        marks["selected"] = "selected"
    if row["significant"]:
        improves = (row["difference"] < 0) == (better == "lower")
        marks["better" if improves else "worse"] = "better" if improves else "worse"
    if others := _twins(comparison, row["group"]):
        marks["twin"] = f"= {', '.join(others)}"
    return Cell("", marks=marks)


def _twins(comparison: Comparison, group: str) -> list[str]:
    """Name a group's twins by the settings in which they differ from it."""
    settings = {each.label: each.settings for each in comparison.groups}
    own = settings[group]
    return [
        label({key: value for key, value in settings[other].items() if value != own[key]})
        for twins in comparison.identical
        if group in twins.labels
        for other in twins.labels
        if other != group
    ]


def _caption(comparison: Comparison, metric: str) -> str:
    repeats = ", ".join(comparison.replicates)
    caption = (
        f"{metric} of {len(comparison.groups)} groups, {comparison.better_of(metric)} is better."
    )
    if comparison.baseline:
        caption += f" Differences: to the baseline ({comparison.baseline}), paired by {repeats};"
        caption += f" better, worse: p (Holm) < {comparison.alpha:g}."
    if comparison.identical:
        caption += " = names twins, which are the same number by number."
    return caption
