"""The table of the groups, a metric each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from stelab.engine.comparison import Comparison
from stelab.engine.comparison.compare import Better
from stelab.engine.comparison.groups import label
from stelab.engine.report.numbers import MISSING, interval, number, p_value, percent
from stelab.engine.report.page.table import Cell, Column, Row, Table, measured, setting, text

signed = partial(number, sign=True)


def result_table(comparison: Comparison, metric: str) -> Table:
    """Return the groups with n, mean, spread, interval, and what differs from the baseline."""
    settings = [setting(key) for key in comparison.by] or [text("group", "head")]
    rows: list[Row] = comparison.rows(metric).to_dict("records")
    # The verdict stands where every window shows it, whatever numbers follow.
    verdict = Column("verdict", partial(_verdict, comparison, comparison.better_of(metric)))
    columns = [*settings, verdict, *_means(comparison)]
    if comparison.baseline:
        columns += _differences(comparison, rows)
    return Table(
        name=f"results-{metric.replace('/', '-')}",
        caption=_caption(comparison, metric),
        columns=columns,
        rows=rows,
    )


def _means(comparison: Comparison) -> list[Column]:
    return [
        measured("n", "n", str),
        measured("mean", "mean"),
        measured("sd", "std"),
        Column(_level(comparison), _interval, "number"),
    ]


def _differences(comparison: Comparison, rows: Sequence[Row]) -> list[Column]:
    all_pairs = all(row["pairs"] == row["n"] for row in rows if _is_compared(row))
    return [
        measured("difference", "difference", signed),
        Column(f"its {_level(comparison)}", _difference_interval, "number"),
        *([] if all_pairs else [Column("pairs", _pairs, "number")]),
        measured("d_z", "effect_size", signed),
        measured("p", "p", p_value),
        measured("p (Holm)", "p_holm", p_value),
    ]


def _level(comparison: Comparison) -> str:
    return f"{percent(comparison.confidence)} interval"


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
        for twins in comparison.twins
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
    if comparison.twins:
        caption += " = names twins, which are the same number by number."
    return caption
