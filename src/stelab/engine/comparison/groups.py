"""Groups: runs of one setting, which replicates tell apart, and the table that compares them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from stelab.engine.comparison.conditions import Conditions, holds, order, write_value
from stelab.engine.comparison.statistics import Array, Interval, differ, holm, summarize
from stelab.engine.project import project


@dataclass(frozen=True)
class Group:
    """Runs that share their settings."""

    label: str  # e.g. "identity, threshold.value=0.5"
    settings: dict[str, Any]  # the value of each key that runs are grouped by; None: they lack it
    runs: pd.DataFrame  # rows of the table of runs, with `replicate`, see `written_replicate`

    def values(self, metric: str) -> dict[str, float]:
        """Return the metric of each replicate, in order: the mean over settings not grouped by."""
        values: dict[str, list[float]] = {}
        for replicate, value in zip(self.runs["replicate"], self.runs[metric], strict=True):
            if pd.notna(value):
                values.setdefault(replicate, []).append(value)
        return {key: float(np.mean(np.sort(values[key]))) for key in sorted(values)}

    def first(self, replicates: Sequence[str]) -> pd.Series:
        """Return the row of the first replicate's run."""
        return self.runs.sort_values([*replicates, "study", "run"]).iloc[0]


def written_replicate(row: pd.Series, replicates: Sequence[str]) -> str:
    """Return a text that the runs of a replicate share, of all groups."""
    return "-".join(write_value(row[name]) for name in replicates)


def group_runs(runs: pd.DataFrame, by: Sequence[str]) -> list[Group]:
    """Group the rows of `runs` by the columns `by`, in the order of their values."""
    places: dict[tuple[Any, ...], list[int]] = {}
    for i, row in enumerate(runs[list(by)].itertuples(index=False, name=None)):
        values = tuple(None if pd.isna(value) else value for value in row)
        places.setdefault(values, []).append(i)
    groups = []
    for values in sorted(places, key=lambda values: tuple(map(order, values))):
        settings = dict(zip(by, values, strict=True))
        groups.append(Group(label(settings), settings, runs.iloc[places[values]]))
    return groups


def label(settings: dict[str, Any]) -> str:
    """Name a setting: options of groups by themselves, other keys with their values."""
    parts = [
        write_value(value) if key in project().named_groups else f"{key}={write_value(value)}"
        for key, value in settings.items()
        if value is not None
    ]
    return ", ".join(parts) or (f"no {', '.join(settings)}" if settings else "all runs")


def paired(values: dict[str, float], others: dict[str, float]) -> tuple[Array, Array]:
    """Return the values of the replicates that both have, in the same order."""
    common = [key for key in values if key in others]
    return np.array([values[k] for k in common]), np.array([others[k] for k in common])


def compare_groups(
    groups: Sequence[Group],
    baseline: Conditions,
    metrics: Sequence[str],
    confidence: float,
    interval: Interval,
) -> pd.DataFrame:
    """Return the table that `Comparison` describes; p values are corrected within a metric."""
    baselines = {group.label: _baseline_of(group, groups, baseline) for group in groups}
    rows = []
    for metric in metrics:
        for group in groups:
            values, other = group.values(metric), baselines[group.label]
            others = other.values(metric) if other and other is not group else {}
            sample = np.array([*values.values()])
            summary = summarize(sample, confidence=confidence, interval=interval)
            d = differ(*paired(values, others), confidence=confidence, interval=interval)
            row = {"group": group.label, **group.settings, "metric": metric}
            row |= {"runs": len(group.runs), **asdict(summary)}
            row |= {"selected": False, "baseline": other.label if other else ""}
            row |= {"pairs": d.pairs, "difference": d.mean}
            row |= {"difference_low": d.low, "difference_high": d.high}
            rows.append(row | {"effect_size": d.effect_size, "p": d.p})
    table = pd.DataFrame(rows)
    p = table.groupby("metric", sort=False)["p"]
    table["p_holm"] = p.transform(lambda column: holm(column.to_numpy(dtype=float)))
    table["significant"] = table["p_holm"] < 1 - confidence
    return table


def _baseline_of(group: Group, groups: Sequence[Group], baseline: Conditions) -> Group | None:
    """Return the baseline that shares all settings which the conditions leave open.

    Settings that it lacks do not count; of several baselines the one that shares most is meant.
    """
    shared: dict[int, Group] = {}
    for other in groups if baseline else ():
        left = {k: v for k, v in other.settings.items() if k not in baseline and v is not None}
        if holds(baseline, other.settings) and all(group.settings[k] == left[k] for k in left):
            shared[len(left)] = other
    return shared[max(shared)] if shared else None


@dataclass(frozen=True)
class Identical:
    """Two or more groups whose replicates have the same losses and codes in every epoch."""

    labels: tuple[str, ...]
    reason: str

    @property
    def label(self) -> str:
        """Return e.g. ``"identity = hardtanh_clip"``, naming what they share once."""
        heads = [label.partition(", ") for label in self.labels]
        tails = {tail for _, _, tail in heads}
        if len(tails) > 1:
            return " = ".join(self.labels)
        names, (tail,) = " = ".join(head for head, _, _ in heads), tails
        return f"{names}, {tail}" if tail else names

    def __str__(self) -> str:
        return f"{self.label}: {self.reason}"


def find_identical(groups: Sequence[Group], curves: pd.DataFrame) -> list[Identical]:
    """Find groups with the same replicates and, for each, the same curves bit by bit."""
    if curves.empty:
        return []
    compared = sorted(name for name in curves.columns if name.startswith(project().results))
    curves = curves.sort_values("epoch")
    # Numbers of all runs at once: a table a run takes most of the time where there are many.
    numbers = curves[compared].to_numpy(dtype=float)
    places = curves.groupby(["study", "run"], sort=False).indices
    same: dict[frozenset[tuple[object, ...]], list[Group]] = {}
    for group in groups:
        runs = [*zip(group.runs["study"], group.runs["run"], strict=True)]
        if any(run not in places for run in runs):  # of a table without curves
            continue
        ends = group.runs.reindex(columns=compared).to_numpy(dtype=float)
        content = frozenset(
            (replicate, end.tobytes(), numbers[places[run]].tobytes())
            for replicate, end, run in zip(group.runs["replicate"], ends, runs, strict=True)
        )
        same.setdefault(content, []).append(group)
    return [
        Identical(tuple(group.label for group in alike), _reason(alike, curves, places))
        for alike in same.values()
        if len(alike) > 1
    ]


def _reason(groups: Sequence[Group], curves: pd.DataFrame, places: Mapping[Any, Array]) -> str:
    """Name the metric by which such runs would differ from others, where it is always 0."""
    runs = pd.concat(group.runs for group in groups)
    effects = runs.get("effect", pd.Series(dtype=object))
    keys = zip(runs["study"], runs["run"], strict=True)
    tables = [curves.iloc[places[key]] for key in keys]
    for name in sorted(effect for effect in effects.unique() if isinstance(effect, str)):
        others = any(effects != name)
        if others and all(name in table and (table[name] == 0).all() for table in tables):
            return f"{name.rpartition('/')[2]} 0 in every epoch"
    return "the same losses and codes in every epoch"
