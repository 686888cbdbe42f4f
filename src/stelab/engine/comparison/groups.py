"""Runs of one setting: replicates of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stelab.engine.comparison.conditions import order, write_value
from stelab.engine.comparison.statistics import Array
from stelab.engine.project import project

Replicate = str


@dataclass(frozen=True)
class Group:
    """Runs that share their settings.

    Attributes:
        label: E.g. ``"identity, threshold.value=0.5"``.
        settings: The value of each key that runs are grouped by; None where they have none.
        runs: Their rows in the table of runs.
    """

    label: str
    settings: dict[str, Any]
    runs: pd.DataFrame

    def values(self, metric: str, replicates: Sequence[str]) -> dict[Replicate, float]:
        """Return the metric of each replicate, in their order.

        Where a replicate has several runs, because a swept key is not grouped by, it is their
        mean.
        """
        found: dict[Replicate, list[float]] = {}
        for _, row in self.runs.iterrows():
            if not pd.isna(row[metric]):
                key = written_replicate(row, replicates)
                found.setdefault(key, []).append(float(row[metric]))
        return {key: float(np.mean(sorted(found[key]))) for key in sorted(found)}

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
    return [
        Group(label(dict(zip(by, key, strict=True))), dict(zip(by, key, strict=True)), runs.iloc[i])
        for key, i in sorted(groups.items(), key=lambda item: tuple(map(order, item[0])))
    ]


def label(settings: dict[str, Any]) -> str:
    """Name a setting: options of groups by themselves, other keys with their values."""
    parts = [
        write_value(value) if key in project().named_groups else f"{key}={write_value(value)}"
        for key, value in settings.items()
        if value is not None
    ]
    nothing = f"no {', '.join(settings)}" if settings else "all runs"
    return ", ".join(parts) or nothing


def paired(values: dict[Replicate, float], others: dict[Replicate, float]) -> tuple[Array, Array]:
    """Return the values of the replicates that both have, in the same order."""
    common = [key for key in values if key in others]
    return np.array([values[k] for k in common]), np.array([others[k] for k in common])
