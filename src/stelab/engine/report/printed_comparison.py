"""A comparison in the terminal."""

from __future__ import annotations

from operator import itemgetter

import pandas as pd

from stelab.engine.comparison import Comparison, Regression
from stelab.engine.comparison.regression import JUDGED
from stelab.engine.project import project
from stelab.engine.report import numbers
from stelab.engine.report.console import PlainConsole, console
from stelab.engine.report.printed_table import Column, Row, measured, print_table, setting

SHORTEST_NAME = 12
"""Characters to which the names of settings are folded in a narrow terminal, at the least."""

_COLOURS = {"worse": "bold red", "failed": "bold red", "lost": "bold red", "better": "green"}


def print_comparison(comparison: Comparison, *, to: PlainConsole | None = None) -> None:
    """Print a table a metric, the best group first, and what must be known of it."""
    to = to or console()
    asides = {name: title for name, title in project().asides.items() if name in comparison.runs}
    shares = comparison.runs.groupby("group")[[*asides]].mean()
    turns = {name: turn for turn, name in enumerate(reversed([*project().asides]), start=1)}
    for metric in comparison.metrics:
        columns = _columns(comparison, metric) + [
            measured(title, name, _share, turn=turns[name])
            for name, title in asides.items()
            if name != metric
        ]
        print_table(
            columns, comparison.rows(metric).join(shares, on="group").to_dict("records"), to
        )
    for sentence in remarks(comparison):
        to.say(sentence)


def remarks(comparison: Comparison) -> list[str]:
    """Return what a reader of the table must know, a sentence each."""
    sentences = [str(same) for same in comparison.identical]
    if len(set(comparison.directions)) > 1:
        pairs = zip(comparison.directions, comparison.metrics, strict=True)
        sentences.append(f"Better is {', '.join(map(' '.join, pairs))}.")
    rows, repeats = comparison.rows(comparison.metric), ", ".join(comparison.replicates)
    if comparison.candidates > 1:
        sentences.append(
            f"Best {comparison.metric} is selected: the {comparison.best_end} of "
            f"{comparison.candidates} means, so chance favours it."
        )
    if tests := int(rows["p"].notna().sum()):
        sentences.append(
            f"Differences to {comparison.baseline}, paired by {repeats}; * p < "
            f"{comparison.alpha:g} after Holm's correction for {numbers.counted(tests, 'test')}; "
            "intervals are not corrected."
        )
    elif not comparison.baseline and len(rows) > 1:
        sentences.append("No baseline: baseline=KEY=VALUE compares the groups with one.")
    if rows["low"].isna().all():
        sentences.append(f"n = 1, no interval: more values of {repeats} give one.")
    return [*sentences, *comparison.notes]


def _columns(comparison: Comparison, metric: str) -> list[Column]:
    """Return what there is to say of a group: n, mean, interval, difference to the baseline.

    Settings, means and differences give way last, and where no group has an interval there are no
    columns of them.
    """
    first, *others = comparison.by or ["group"]
    columns = [
        setting(first, least=SHORTEST_NAME),
        *(setting(key, turn=5, below=True, least=SHORTEST_NAME) for key in others),
        measured("n", "n", str),
        Column(metric, _mean, "number"),
    ]
    has_intervals = comparison.rows(metric)["low"].notna().any()
    level = f"{numbers.percent(comparison.confidence)} interval"
    if has_intervals:
        columns.append(Column(level, _interval, "number", turn=4, below=True))
    if comparison.baseline:
        columns.append(Column("difference", _difference, "number"))
    if comparison.baseline and has_intervals:
        columns += [
            Column(f"its {level}", _difference_interval, "number", turn=4, below=True),
            measured("d_z", "effect_size", numbers.signed, turn=3),
            measured("p (Holm)", "p_holm", numbers.p_value),
        ]
    return columns


def _mean(row: Row) -> str:
    return numbers.number(row["mean"]) + (" (selected)" if row["selected"] else "")


def _interval(row: Row) -> str:
    return numbers.interval(row["low"], row["high"], n=row["n"]) if row["n"] else numbers.MISSING


def _difference(row: Row) -> str:
    if row["baseline"] == row["group"]:
        return "baseline"
    return numbers.signed(row["difference"]) + (" *" if row["significant"] else "")


def _difference_interval(row: Row) -> str:
    if row["baseline"] in ("", row["group"]):
        return numbers.MISSING
    return _paired_interval(row) if row["pairs"] else "no pair"


def _paired_interval(row: Row) -> str:
    low, high, pairs = row["difference_low"], row["difference_high"], row["pairs"]
    return numbers.interval(low, high, n=pairs, sign=True)


def _share(value: float) -> str:
    return numbers.MISSING if pd.isna(value) else f"{value:.1%}"


def print_regression(
    regression: Regression,
    *,
    study: str,
    against: str,
    confidence: float,
    to: PlainConsole | None = None,
) -> None:
    """Print a row each setting and metric with its verdict, and what chance does to them.

    `study` is the name of the study in question, `against` that of the older one.
    """
    to = to or console()
    rows = regression.table.to_dict("records")
    # Verdicts and differences give way last.
    columns = [
        Column("setting", itemgetter("group"), least=SHORTEST_NAME),
        Column("metric", itemgetter("metric"), turn=3, below=True),
        Column(
            "verdict",
            lambda row: (row["verdict"], _COLOURS.get(row["verdict"], "default")),
            least=len("no difference shown"),
        ),
        measured("pairs", "pairs", str, turn=4, below=True),
        measured("old", "old"),
        measured("new", "new", turn=2, below=True),
        measured("difference", "difference", numbers.signed),
        Column("interval", _paired_interval, "number", turn=1, below=True),
        measured("p", "p", numbers.p_value, turn=5, below=True),
    ]
    print_table(columns, rows, to, title=f"{study} against {against}")
    for sentence in [*_judged(regression, confidence), *regression.unmatched]:
        to.say(sentence)


def _judged(regression: Regression, confidence: float) -> list[str]:
    """Count the rows that are judged, and those that chance would call worse."""
    verdicts = regression.table["verdict"]
    judged = int(verdicts.isin(JUDGED).sum())
    sentences = [f"{judged} of {numbers.counted(len(verdicts), 'row')} judged."]
    by_interval = judged - int(verdicts.isin(["failed", "lost"]).sum())
    chance = f"{by_interval * (1 - confidence) / 2:.1f}"
    if chance != "0.0":
        sentences.append(
            f"Each interval is taken by itself: of {by_interval} unchanged rows about {chance} "
            "would be called worse by chance."
        )
    return sentences
