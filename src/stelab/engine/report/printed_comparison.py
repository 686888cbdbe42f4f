"""A comparison in the terminal."""

from __future__ import annotations

from functools import partial
from operator import itemgetter

import pandas as pd

from stelab.engine.comparison import Comparison, Regression
from stelab.engine.comparison.regression import JUDGED
from stelab.engine.project import project
from stelab.engine.report.console import PlainConsole, console
from stelab.engine.report.numbers import MISSING, interval, p_value
from stelab.engine.report.phrases import counted
from stelab.engine.report.printed_table import print_table
from stelab.engine.report.results import SHORTEST_NAME, result_columns, signed
from stelab.engine.report.table import Cell, Column, Row, measured

_COLOURS = {"worse": "bold red", "failed": "bold red", "lost": "bold red", "better": "green"}


def print_comparison(comparison: Comparison, *, to: PlainConsole | None = None) -> None:
    """Print a table a metric, the best group first, and what must be known of it.

    Args:
        comparison: What is printed.
        to: Where to; None: the standard output.
    """
    to = to or console()
    for metric in comparison.metrics:
        columns = [*result_columns(comparison, metric), *_aside(comparison, metric)]
        print_table(columns, comparison.rows(metric).to_dict("records"), to)
    for line in remarks(comparison):
        to.say(line)


def remarks(comparison: Comparison) -> list[str]:
    """Return what a reader of the table must know, a sentence each."""
    lines = [str(twins) for twins in comparison.identical]
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
    rows = regression.table.to_dict("records")
    print_table(_JUDGEMENT, rows, to, title=f"{study} against {against}")
    for line in [*_judged(regression, confidence), *regression.unmatched]:
        to.say(line)


def _verdict(row: Row) -> Cell:
    return Cell(row["verdict"], colour=_COLOURS.get(row["verdict"], "default"))


def _difference_interval(row: Row) -> str:
    low, high, pairs = row["difference_low"], row["difference_high"], row["pairs"]
    return interval(low, high, n=pairs, sign=True)


# Verdicts and differences give way last.
_JUDGEMENT = (
    Column("setting", itemgetter("group"), least=SHORTEST_NAME),
    Column("metric", itemgetter("metric"), turn=3, below=True),
    Column("verdict", _verdict, least=len("no difference shown")),
    measured("pairs", "pairs", str, turn=4, below=True),
    measured("old", "old"),
    measured("new", "new", turn=2, below=True),
    measured("difference", "difference", signed),
    Column("interval", _difference_interval, "number", turn=1, below=True),
    measured("p", "p", p_value, turn=5, below=True),
)


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


def _aside(comparison: Comparison, metric: str) -> list[Column]:
    """Return the columns that the project declares beside those of the compared metrics."""
    titles = project().asides
    aside = [name for name in titles if name in comparison.runs and name != metric]
    means = comparison.runs.groupby("group")[aside].mean()
    turns = {name: turn for turn, name in enumerate(reversed([*titles]), start=1)}
    return [
        Column(titles[name], partial(_share, means[name]), "number", turn=turns[name])
        for name in aside
    ]


def _share(means: pd.Series, row: Row) -> str:
    value = means[row["group"]]
    return MISSING if pd.isna(value) else f"{value:.1%}"
