"""A comparison in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from stelab.engine.comparison import Comparison, Regression
from stelab.engine.comparison.regression import JUDGED
from stelab.engine.project import project
from stelab.engine.report.console import PlainConsole, coloured, console
from stelab.engine.report.fitting import Column, print_table
from stelab.engine.report.numbers import MISSING, interval, number, p_value, percent, setting_text
from stelab.engine.report.words import counted

Row = dict[str, Any]

# Of each group beside the compared metrics, where runs have them; the last gives way first.

SHORTEST_NAME = 12
"""Characters to which the names of settings are folded in a narrow terminal, at the least."""

_COLOURS = {"worse": "bold red", "failed": "bold red", "lost": "bold red", "better": "green"}


def print_comparison(comparison: Comparison, *, to: PlainConsole | None = None) -> None:
    """Print a table a metric, the best group first, and what must be known of it.

    Args:
        comparison: What is printed.
        to: Where to; None: the standard output.
    """
    to = to or console()
    for metric in comparison.metrics:
        print_table(_columns(comparison, metric), to)
    for line in remarks(comparison):
        to.say(line)


def remarks(comparison: Comparison) -> list[str]:
    """Return what a reader of the table must know, a sentence each."""
    lines = [str(twins) for twins in comparison.twins]
    if len(set(comparison.directions)) > 1:
        each = zip(comparison.metrics, comparison.directions, strict=True)
        lines.append(f"Better is {', '.join(f'{better} {metric}' for metric, better in each)}.")
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
    regression: Regression,
    *,
    study: str,
    against: str,
    confidence: float,
    to: PlainConsole | None = None,
) -> None:
    """Print a row each setting and metric with its verdict, and what chance does to them.

    Args:
        regression: What was judged.
        study: The name of the study in question.
        against: That of the older one.
        confidence: Of the intervals that rows are judged by.
        to: Where to; None: the standard output.
    """
    to = to or console()
    print_table(_judgement(regression), to, title=f"{study} against {against}")
    for line in [*_judged(regression, confidence), *regression.unmatched]:
        to.say(line)


def _judgement(regression: Regression) -> list[Column]:
    """Lay out a regression: verdicts and differences give way last."""
    rows = regression.table.to_dict("records")
    verdicts = [coloured(v, _COLOURS.get(v, "default")) for v in regression.table["verdict"]]
    bounds = [
        interval(row["difference_low"], row["difference_high"], n=row["pairs"], sign=True)
        for row in rows
    ]
    return [
        Column("setting", [row["group"] for row in rows], left=True, least=SHORTEST_NAME),
        Column("metric", [row["metric"] for row in rows], left=True, turn=3, below=True),
        Column("verdict", verdicts, left=True, least=len("no difference shown")),
        Column("pairs", [str(row["pairs"]) for row in rows], turn=4, below=True),
        Column("old", [number(row["old"]) for row in rows]),
        Column("new", [number(row["new"]) for row in rows], turn=2, below=True),
        Column("difference", [number(row["difference"], sign=True) for row in rows]),
        Column("interval", bounds, turn=1, below=True),
        Column("p", [p_value(row["p"]) for row in rows], turn=5, below=True),
    ]


def _judged(regression: Regression, confidence: float) -> list[str]:
    """Count the rows that are judged, and those that chance would call worse."""
    verdicts = regression.table["verdict"]
    judged = int(verdicts.isin(JUDGED).sum())
    lines = [f"{judged} of {counted(len(verdicts), 'row')} judged."]
    by_interval = judged - int(verdicts.isin(["failed", "lost"]).sum())
    chance = f"{by_interval * (1 - confidence) / 2:.1f}"
    if chance != "0.0":
        lines.append(
            f"Each interval is taken by itself: of {by_interval} unchanged rows about {chance} "
            "would be called worse by chance."
        )
    return lines


def _columns(comparison: Comparison, metric: str) -> list[Column]:
    """Lay out the groups of one metric: settings, means and differences give way last."""
    rows = comparison.rows(metric)
    records, spread = rows.to_dict("records"), bool(rows["low"].notna().any())
    columns = [*_settings(comparison, records), *_means(comparison, metric, records, spread)]
    if comparison.baseline:
        columns += _differences(comparison, records, spread)
    titles = project().asides
    aside = [name for name in titles if name in comparison.runs and name != metric]
    means = comparison.runs.groupby("group")[aside].mean().loc[rows["group"]]
    turns = {name: turn for turn, name in enumerate(reversed([*titles]), start=1)}
    return columns + [
        Column(titles[name], [_share(value) for value in means[name]], turn=turns[name])
        for name in aside
    ]


def _settings(comparison: Comparison, rows: list[Row]) -> list[Column]:
    look: dict[str, Any] = {"left": True, "least": SHORTEST_NAME}
    if not comparison.by:
        return [Column("group", [row["group"] for row in rows], **look)]
    first, *others = (
        Column(key, [setting_text(row[key]) for row in rows], **look) for key in comparison.by
    )
    return [first, *(replace(other, turn=5, below=True) for other in others)]


def _means(comparison: Comparison, metric: str, rows: list[Row], spread: bool) -> list[Column]:
    means = [number(row["mean"]) + (" (selected)" if row["selected"] else "") for row in rows]
    columns = [Column("n", [str(row["n"]) for row in rows]), Column(metric, means)]
    if spread:
        columns.append(_level(comparison, [_interval(row) for row in rows]))
    return columns


def _interval(row: Row) -> str:
    return interval(row["low"], row["high"], n=row["n"]) if row["n"] else MISSING


def _differences(comparison: Comparison, rows: list[Row], spread: bool) -> list[Column]:
    cells = zip(*(_difference(row) for row in rows), strict=True)
    difference, bounds, effect_size, p = (list(column) for column in cells)
    if not spread:
        return [Column("difference", difference)]
    return [
        Column("difference", difference),
        _level(comparison, bounds),
        Column("d_z", effect_size, turn=3),
        Column("p (Holm)", p),
    ]


def _difference(row: Row) -> tuple[str, str, str, str]:
    """Return a difference, its interval, its effect size and its p."""
    if row["baseline"] == row["group"]:
        return "baseline", "", "", ""
    star = " *" if row["significant"] else ""
    low, high, n = row["difference_low"], row["difference_high"], row["pairs"]
    return (
        number(row["difference"], sign=True) + star,
        interval(low, high, n=n, sign=True) if n else "no pair",
        number(row["effect_size"], sign=True),
        p_value(row["p_holm"]),
    )


def _level(comparison: Comparison, bounds: Sequence[str]) -> Column:
    """Return the column of an interval, which goes below its estimate."""
    return Column(f"{percent(comparison.confidence)} interval", bounds, turn=4, below=True)


def _share(value: float) -> str:
    return MISSING if pd.isna(value) else f"{value:.1%}"
