"""A comparison in the terminal."""

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import pandas as pd

from stelab.engine.comparison import Comparison, Regression
from stelab.engine.comparison.regression import JUDGED
from stelab.engine.project import project
from stelab.engine.report import numbers
from stelab.engine.report.console import Column, PlainConsole, console, print_table

Row = Mapping[str, Any]

SHORTEST_NAME = 12  # characters to which settings are folded in a narrow terminal, at the least
_COLOURS = {"worse": "bold red", "failed": "bold red", "lost": "bold red", "better": "green"}


def print_comparison(comparison: Comparison, *, to: PlainConsole | None = None) -> None:
    """Print a table a metric, the best group first, and what must be known of it."""
    to = to or console()
    asides = {name: title for name, title in project().asides.items() if name in comparison.runs}
    shares = comparison.runs.groupby("group")[[*asides]].mean()
    turns = {name: turn for turn, name in enumerate(reversed([*project().asides]), start=1)}
    for metric in comparison.metrics:
        columns = _columns(comparison, metric) + [
            _measured(title, name, _share, turn=turns[name])
            for name, title in asides.items()
            if name != metric
        ]
        rows = comparison.rows(metric).join(shares, on="group")
        print_table(columns, rows.to_dict("records"), to)
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
    """Return the columns of groups; where none has an interval, there are none of intervals."""
    first, *others = comparison.by or ["group"]
    columns = [
        _setting(first),
        *(_setting(key, turn=5, below=True) for key in others),
        _measured("n", "n", str),
        Column(metric, _mean, "number"),
    ]
    has_intervals = comparison.rows(metric)["low"].notna().any()
    level = f"{numbers.percent(comparison.confidence)} interval"
    below: Any = {"kind": "number", "turn": 4, "below": True}
    if has_intervals:
        columns.append(Column(level, _interval, **below))
    if comparison.baseline:
        columns.append(Column("difference", _difference, "number"))
    if comparison.baseline and has_intervals:
        columns += [
            Column(f"its {level}", _difference_interval, **below),
            _measured("d_z", "effect_size", numbers.signed, turn=3),
            _measured("p (Holm)", "p_holm", numbers.p_value),
        ]
    return columns


def _setting(key: str, **options: Any) -> Column:
    return Column(key, lambda row: numbers.setting_text(row[key]), least=SHORTEST_NAME, **options)


def _measured(
    name: str, key: str, write: Callable[[float], str] = numbers.number, **options: Any
) -> Column:
    return Column(name, lambda row: write(row[key]), "number", **options)


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
    regression: Regression, title: str, *, confidence: float, to: PlainConsole | None = None
) -> None:
    """Print a row each setting and metric with its verdict, and what chance does to them."""
    to = to or console()
    # Verdicts and differences give way last.
    columns = [
        Column("setting", itemgetter("group"), least=SHORTEST_NAME),
        Column("metric", itemgetter("metric"), turn=3, below=True),
        Column(
            "verdict",
            lambda row: (row["verdict"], _COLOURS.get(row["verdict"], "default")),
            least=len("no difference shown"),
        ),
        _measured("pairs", "pairs", str, turn=4, below=True),
        _measured("old", "old"),
        _measured("new", "new", turn=2, below=True),
        _measured("difference", "difference", numbers.signed),
        Column("interval", _paired_interval, "number", turn=1, below=True),
        _measured("p", "p", numbers.p_value, turn=5, below=True),
    ]
    print_table(columns, regression.table.to_dict("records"), to, title=title)
    verdicts = regression.table["verdict"]
    judged = int(verdicts.isin(JUDGED).sum())
    to.say(f"{judged} of {numbers.counted(len(verdicts), 'row')} judged.")
    by_interval = judged - int(verdicts.isin(["failed", "lost"]).sum())
    chance = f"{by_interval * (1 - confidence) / 2:.1f}"
    if chance != "0.0":
        to.say(
            f"Each interval is taken by itself: of {by_interval} unchanged rows about {chance} "
            "would be called worse by chance."
        )
    for sentence in regression.unmatched:
        to.say(sentence)
