"""How the runs were made and how they are compared."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from stelab.engine.comparison import Comparison
from stelab.engine.comparison.conditions import write_value, written
from stelab.engine.comparison.statistics import ENOUGH, RESAMPLES
from stelab.engine.project import project
from stelab.engine.report.numbers import percent
from stelab.engine.report.phrases import counted, join_words
from stelab.engine.report.table import Table, text

_PARTS = ("versions.", "machine.", "git.")


def method_sentences(comparison: Comparison) -> list[str]:
    """Return what is trained, and how a mean, an interval and a difference come about."""
    repeats = join_words(comparison.replicates)
    return [
        f"Every run trains {project().trained} ({_trained(comparison)}). A metric is "
        "its final value in run.json.",
        f"Runs of the same {join_words(comparison.by or ['settings'])} are a group; those that "
        f"differ by {repeats} alone are replicates, and n is their number. Means and standard "
        "deviations (sd, n − 1) are over replicates.",
        _intervals(comparison),
        *([_differences(comparison), _tests(comparison)] if comparison.baseline else []),
        "Groups are twins (=) where each replicate has the same losses and codes in every epoch, "
        "bit by bit.",
        *_dates(comparison),
    ]


def environment_table(comparison: Comparison) -> Table:
    """Return with what the compared runs were made: versions, machines, commits, seeds, dates."""
    runs = comparison.runs
    keys = [
        key
        for key in runs.columns
        if (key.startswith(_PARTS) or key in comparison.replicates) and runs[key].notna().any()
    ]
    rows = [{"key": key, "value": _values(runs[key])} for key in keys]
    caption = f"With what the {len(runs)} compared runs were made"
    columns = [text("key", "head"), text("value", "prose")]
    return Table("environment", caption, columns, rows, sortable=False)


def _dates(comparison: Comparison) -> list[str]:
    """Tell when the compared runs were made, and how long they took."""
    runs = comparison.runs
    if not {"timings.started", "timings.ended", "timings.seconds"} <= set(runs):
        return []
    first, last = runs["timings.started"].dropna().min(), runs["timings.ended"].dropna().max()
    hours = runs["timings.seconds"].sum() / 3600
    return [
        f"The compared runs were made from {first} to {last} and took {hours:.2g} hours together."
    ]


def _trained(comparison: Comparison) -> str:
    runs = comparison.runs
    parts = [
        f"{name}: {', '.join(written(runs[name]))}" for name in reversed(project().named_groups)
    ]
    return "; ".join(parts)


def _intervals(comparison: Comparison) -> str:
    if comparison.interval == "t":
        how = "Student's, by the t distribution"
    else:
        how = f"of the bias-corrected and accelerated bootstrap, {RESAMPLES} resamples"
    own = (
        " Intervals are each group's own, not corrected for the number of tests, so one may leave "
        "out 0 although p (Holm) is not significant."
    )
    return (
        f"Intervals are of {percent(comparison.confidence)}, {how}; of one replicate there is none."
        f"{own if comparison.baseline else ''} Bands of curves are always Student's, pointwise: "
        "for each epoch by itself."
    )


def _differences(comparison: Comparison) -> str:
    test = "paired t test" if comparison.interval == "t" else "sign-flip permutation test"
    return (
        f"A difference is the group's value minus its baseline's ({comparison.baseline}), in the "
        f"mean over pairs of equal {join_words(comparison.replicates)}. p is that of the two-sided "
        f"{test}; fewer than {ENOUGH} pairs are not tested. The effect size is Cohen's d_z, the "
        "mean of the differences over their standard deviation."
    )


def _tests(comparison: Comparison) -> str:
    """Tell over how many tests p values are corrected."""
    tests = comparison.table.groupby("metric", sort=False)["p"].count()
    counts = join_words(f"{count} of {metric}" for metric, count in tests.items())
    return (
        f"p (Holm) is corrected for the number of tests of its metric: {counts}; below "
        f"{comparison.alpha:g} a difference is called significant. Where all pairs differ by the "
        "same amount, or there is one pair, nothing is tested."
    )


def _values(values: pd.Series) -> str:
    """Write the values of a column; if they differ, with the number of runs that have each."""
    counts = Counter(write_value(value) for value in values.dropna())
    if absent := int(values.isna().sum()):
        counts["none"] = absent
    if len(counts) == 1:
        return next(iter(counts))
    order = [*written(values), *(["none"] if absent else [])]
    return ", ".join(f"{value} ({counted(counts[value], 'run')})" for value in order)
