"""A comparison in the terminal."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from stelab.comparison import Comparison, Regression
from stelab.comparison.regression import JUDGED
from stelab.report.console import console
from stelab.report.numbers import MISSING, interval, number, p_value, percent, setting_text
from stelab.report.words import counted

# Of each group beside the compared metrics, where runs have them.
ASIDE = {"code/dead_bits": "dead bits", "estimator/clip_fraction": "clipped"}


def print_comparison(comparison: Comparison) -> None:
    """Print a table a metric, the best group first, and what must be known of it."""
    for metric in comparison.metrics:
        console().print(_table(comparison, metric))
    for line in remarks(comparison):
        console().print(line, highlight=False, markup=False)


def remarks(comparison: Comparison) -> list[str]:
    """Return what a reader of the table must know, a sentence each."""
    lines = [str(twins) for twins in comparison.twins]
    rows, repeats = comparison.rows(comparison.metric), ", ".join(comparison.replicates)
    if comparison.candidates > 1:
        lines.append(
            f"Best {comparison.metric} is selected: the {comparison.best_end} of "
            f"{comparison.candidates} means, so chance favours it."
        )
    if tests := int(rows["p"].notna().sum()):
        lines.append(
            f"Differences to {comparison.baseline}, paired by {repeats}; * p < "
            f"{comparison.alpha:g} after Holm's correction for {counted(tests, 'test')}; "
            "intervals are not corrected."
        )
    elif not comparison.baseline and len(rows) > 1:
        lines.append("No baseline: baseline=KEY=VALUE compares the groups with one.")
    if rows["low"].isna().all():
        lines.append(f"n = 1, no interval: more values of {repeats} give one.")
    return [*lines, *comparison.notes]


def print_regression(
    regression: Regression, *, study: str, against: str, confidence: float
) -> None:
    """Print a row each setting and metric with its verdict, and what chance does to them.

    Args:
        regression: What was judged.
        study: The name of the study in question.
        against: That of the older one.
        confidence: Of the intervals that rows are judged by.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=f"{study} against {against}")
    for name in ("setting", "metric", "verdict"):
        table.add_column(name, no_wrap=True)
    for name in ("pairs", "old", "new", "difference", "interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    colours = {"worse": "bold red", "failed": "bold red", "better": "green"}
    for row in regression.table.to_dict("records"):
        bounds = row["difference_low"], row["difference_high"]
        table.add_row(
            escape(row["group"]),
            row["metric"],
            f"[{colours.get(row['verdict'], 'default')}]{row['verdict']}[/]",
            str(row["pairs"]),
            number(row["old"]),
            number(row["new"]),
            number(row["difference"], sign=True),
            escape(interval(*bounds, n=row["pairs"], sign=True)),
            p_value(row["p"]),
        )
    console().print(table)
    for line in [*_judged(regression, confidence), *regression.unmatched]:
        console().print(line, highlight=False, markup=False)


def _judged(regression: Regression, confidence: float) -> list[str]:
    """Count the rows that are judged, and those that chance would call worse."""
    verdicts = regression.table["verdict"]
    judged = int(verdicts.isin(JUDGED).sum())
    lines = [f"{judged} of {counted(len(verdicts), 'row')} judged."]
    by_interval = judged - int((verdicts == "failed").sum())
    chance = f"{by_interval * (1 - confidence) / 2:.1f}"
    if chance != "0.0":
        lines.append(
            f"Each interval is taken by itself: of {by_interval} unchanged rows about {chance} "
            "would be called worse by chance."
        )
    return lines


def _table(comparison: Comparison, metric: str) -> Table:
    """Lay out the groups of one metric."""
    rows = comparison.rows(metric)
    aside = [name for name in ASIDE if name in comparison.runs and name != metric]
    means = comparison.runs.groupby("group")[aside].mean()
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for key in comparison.by or ("group",):
        table.add_column(key, overflow="fold")
    for name in (*_columns(comparison, metric, rows), *(ASIDE[name] for name in aside)):
        table.add_column(name, justify="right", no_wrap=not name.endswith("interval"))
    for row in rows.to_dict("records"):
        settings = [setting_text(row[key]) for key in comparison.by] or [row["group"]]
        numbers = _cells(row, spread=_spread(rows), baseline=bool(comparison.baseline))
        extra = [_share(means.loc[row["group"], name]) for name in aside]
        table.add_row(*(escape(cell) for cell in [*settings, *numbers, *extra]))
    return table


def _spread(rows: pd.DataFrame) -> bool:
    """Tell whether any group has an interval, so that there is a column for it."""
    return bool(rows["low"].notna().any())


def _columns(comparison: Comparison, metric: str, rows: pd.DataFrame) -> list[str]:
    level = [f"{percent(comparison.confidence)} interval"] if _spread(rows) else []
    names = ["n", metric, *level]
    if comparison.baseline:
        names += ["difference", *level, *(["d_z", "p (Holm)"] if level else [])]
    return names


def _cells(row: dict[str, Any], *, spread: bool, baseline: bool) -> list[str]:
    mark = " (selected)" if row["selected"] else ""
    cells = [str(row["n"]), number(row["mean"]) + mark]
    if spread:
        cells.append(interval(row["low"], row["high"], n=row["n"]) if row["n"] else MISSING)
    if not baseline:
        return cells
    if row["baseline"] == row["group"]:
        return [*cells, "baseline", *(["", "", ""] if spread else [])]
    star = " *" if row["significant"] else ""
    cells.append(number(row["difference"], sign=True) + star)
    if spread:
        low, high, n = row["difference_low"], row["difference_high"], row["pairs"]
        cells += [
            interval(low, high, n=n, sign=True) if n else "no pair",
            number(row["effect_size"], sign=True),
            p_value(row["p_holm"]),
        ]
    return cells


def _share(value: float) -> str:
    return MISSING if pd.isna(value) else f"{value:.1%}"
