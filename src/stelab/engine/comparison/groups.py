"""Runs of one setting, replicates of each other, and the table that compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from stelab.engine.comparison.conditions import order, write_value
from stelab.engine.comparison.statistics import Array, Interval, differ, holm, summarize
from stelab.engine.project import project

Replicate = str


@dataclass(frozen=True)
class Group:
    """Runs that share their settings.

    Attributes:
        label: E.g. ``"identity, threshold.value=0.5"``.
        settings: The value of each key that runs are grouped by; None where they have none.
        runs: Their rows in the table of runs, with `replicate`: what `written_replicate` returns.
    """

    label: str
    settings: dict[str, Any]
    runs: pd.DataFrame

    def values(self, metric: str) -> dict[Replicate, float]:
        """Return the metric of each replicate, in order: the mean of its runs.

        It has several runs where a swept key is not grouped by.
        """
        measured = self.runs.dropna(subset=[metric]).groupby("replicate")[metric]
        return {key: float(np.mean(np.sort(values))) for key, values in measured}

    def first(self, replicates: Sequence[str]) -> pd.Series:
        """Return the row of the first replicate's run."""
        return self.runs.sort_values([*replicates, "study", "run"]).iloc[0]


def written_replicate(row: pd.Series, replicates: Sequence[str]) -> Replicate:
    """Return a text that the runs of a replicate share, of all groups."""
    return "-".join(write_value(row[name]) for name in replicates)


def group_runs(runs: pd.DataFrame, by: Sequence[str]) -> list[Group]:
    """Group the rows of `runs` by the columns `by`, in the order of their values."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, row in enumerate(runs[list(by)].itertuples(index=False, name=None)):
        key = tuple(None if pd.isna(value) else value for value in row)
        groups.setdefault(key, []).append(i)
    settings = {key: dict(zip(by, key, strict=True)) for key in groups}
    return [
        Group(label(settings[key]), settings[key], runs.iloc[groups[key]])
        for key in sorted(groups, key=lambda key: tuple(map(order, key)))
    ]


def label(settings: dict[str, Any]) -> str:
    """Name a setting: options of groups by themselves, other keys with their values."""
    parts = [
        write_value(value) if key in project().named_groups else f"{key}={write_value(value)}"
        for key, value in settings.items()
        if value is not None
    ]
    return ", ".join(parts) or (f"no {', '.join(settings)}" if settings else "all runs")


def paired(values: dict[Replicate, float], others: dict[Replicate, float]) -> tuple[Array, Array]:
    """Return the values of the replicates that both have, in the same order."""
    common = [key for key in values if key in others]
    return np.array([values[k] for k in common]), np.array([others[k] for k in common])


def compare_groups(
    groups: Sequence[Group],
    partners: Mapping[str, Group | None],
    *,
    metrics: Sequence[str],
    confidence: float,
    interval: Interval,
) -> pd.DataFrame:
    """Return the table that `Comparison` describes; `partners` has each group's baseline.

    p values are corrected (Holm) within a metric.
    """
    rows = []
    for metric in metrics:
        for group in groups:
            values, other = group.values(metric), partners[group.label]
            baseline = other.values(metric) if other and other is not group else {}
            summary = summarize(
                np.array([*values.values()]), confidence=confidence, interval=interval
            )
            d = differ(*paired(values, baseline), confidence=confidence, interval=interval)
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
