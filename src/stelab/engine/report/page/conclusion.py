"""What the table says, in sentences."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from stelab.engine.comparison import Comparison
from stelab.engine.report.numbers import interval, number, p_value
from stelab.engine.report.page.runs import COMPARED, finished_states
from stelab.engine.report.phrases import count_kinds, counted, join_words
from stelab.engine.report.table import Row


def headline(comparison: Comparison) -> str:
    """Return the best group, its mean and its interval."""
    best = _rows(comparison)[0]
    end = f"{comparison.best_end.capitalize()} " if best["selected"] else ""
    return f"{end}{comparison.metric}: {comparison.line_of[best['group']]}: {_estimate(best)}"


def conclusions(comparison: Comparison) -> list[str]:
    """Return what else must be said: of the best group, of the differences, of the runs."""
    sentences = [
        _selection(comparison),
        _against_baseline(comparison),
        _runner_up(comparison),
        _pairing(comparison),
        _differences(comparison),
        _count_runs(comparison),
    ]
    return [sentence for sentence in sentences if sentence]


def notes(comparison: Comparison) -> list[str]:
    """Return the twins, each with what the curves say about it, and the notes of the comparison."""
    return [*(f"{twins}." for twins in comparison.identical), *comparison.notes]


def _rows(comparison: Comparison) -> list[Row]:
    rows: list[Row] = comparison.rows(comparison.metric).to_dict("records")
    return rows


def _estimate(row: Row) -> str:
    """Write a mean with its interval and n."""
    mean, found = number(row["mean"]), interval(row["low"], row["high"], n=row["n"])
    return f"{mean}, {found}" if pd.isna(row["low"]) else f"{mean} {found}, n = {row['n']}"


def _selection(comparison: Comparison) -> str:
    best = _rows(comparison)[0]
    if comparison.candidates < 2:
        return ""
    untested = pd.isna(best["difference"])
    worth = "mean is" if untested else "mean and its difference to the baseline are"
    return (
        f"It is selected as the {comparison.best_end} of {comparison.candidates} means, by this "
        f"very number, so its {worth} likely too good."
    )


def _against_baseline(comparison: Comparison) -> str:
    best = _rows(comparison)[0]
    if not best["baseline"]:
        return ""
    if best["baseline"] == best["group"]:
        return ""
    if best["pairs"] == 0:
        return f"It has no pair with its baseline, {best['baseline']}."
    low, high = best["difference_low"], best["difference_high"]
    difference = number(best["difference"], sign=True)
    found = interval(low, high, n=best["pairs"], sign=True)
    return (
        f"Its difference to its baseline, {best['baseline']}: {difference}, {found}{_p_of(best)}."
    )


def _runner_up(comparison: Comparison) -> str:
    """Name the second best, and say so where no test compares the best with it."""
    best, *others = _rows(comparison)
    line = comparison.line_of
    for other in others:
        if line[other["group"]] != line[best["group"]] and not pd.isna(other["mean"]):
            untested = "" if _is_tested(best, other) else "; no test compares the two"
            return f"Second: {line[other['group']]}: {_estimate(other)}{untested}."
    return ""


def _is_tested(best: Row, other: Row) -> bool:
    pairs = ((best, other), (other, best))
    return any(a["baseline"] == b["group"] and not pd.isna(a["p"]) for a, b in pairs)


def _pairing(comparison: Comparison) -> str:
    """Tell what groups are compared with, and how."""
    if not comparison.baseline:
        return "No baseline is named, so no difference is tested."
    named = [word.partition("=")[0] for word in comparison.baseline.split()]
    held = [key for key in comparison.by if key not in named]
    repeats = join_words(comparison.replicates)
    at = f" at the same {join_words(held)}" if held else ""
    return (
        f"Baseline: {comparison.baseline}; each group is compared with it{at}, paired by {repeats}."
    )


def _differences(comparison: Comparison) -> str:
    """Count what became of the groups that have another one as baseline."""
    rows = [r for r in _rows(comparison) if r["baseline"] and r["baseline"] != r["group"]]
    if not rows:
        return ""
    tests = sum(not pd.isna(row["p"]) for row in rows)
    found = count_kinds(Counter(_verdict(row, comparison.better) for row in rows))
    corrected = f" (p < {comparison.alpha:g} after Holm's correction for {counted(tests, 'test')})"
    groups = counted(len(rows), "group")
    return f"{groups} against the baseline: {found}{corrected if tests else ''}."


def _verdict(row: Row, better: str) -> str:
    if row["significant"]:
        return "better" if (row["difference"] < 0) == (better == "lower") else "worse"
    if not pd.isna(row["p"]):
        return "without a significant difference"
    equal = row["pairs"] and row["difference"] == row["difference_low"] == 0
    return "equal in every pair" if equal else "not testable"


def _count_runs(comparison: Comparison) -> str:
    """Tell how many runs are compared, and how many are not."""
    states = Counter(finished_states(comparison).values())
    compared = f"{counted(states.pop(COMPARED), 'run')} compared"
    parts = [f"{compared} (only {comparison.where})" if comparison.where else compared]
    parts += [f"{count} {state}" for state, count in states.items()]
    left_out = comparison.study.left_out
    if len(left_out):
        parts.append(f"{len(left_out)} left out ({count_kinds(Counter(left_out['state']))})")
    else:
        parts.append("no other left out" if states else "none left out")
    return f"{'; '.join(parts)}."


def _p_of(row: Row) -> str:
    """Write a corrected p value and what it means; nothing where there was no test."""
    if pd.isna(row["p_holm"]):
        return ""
    p = p_value(row["p_holm"])
    meaning = "significant" if row["significant"] else "not significant"
    return f", p (Holm) {p if p.startswith('<') else f'= {p}'}: {meaning}"
