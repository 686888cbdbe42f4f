"""The table of a comparison: a row a group and metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stelab.engine.comparison.groups import Group, Replicate, paired
from stelab.engine.comparison.statistics import (
    NO_DIFFERENCE,
    NO_SUMMARY,
    Interval,
    differ,
    holm,
    summarize,
)


def compare_groups(
    groups: Sequence[Group],
    partners: Mapping[str, Group | None],
    *,
    metrics: Sequence[str],
    replicates: Sequence[str],
    confidence: float,
    interval: Interval,
) -> pd.DataFrame:
    """Return the table that `stelab.engine.comparison.Comparison` describes.

    Args:
        groups: In the order of the rows.
        partners: The baseline of each group, by its label.
        metrics: A block of rows each; p values are corrected (Holm) within one.
        replicates: Keys that pair runs.
        confidence: Of the intervals; a corrected p below 1 - confidence is significant.
        interval: See `stelab.engine.comparison.statistics`.
    """
    rows = []
    for metric in metrics:
        for group in groups:
            own, other = group.values(metric, replicates), partners[group.label]
            theirs = other.values(metric, replicates) if other and other is not group else None
            row = {"group": group.label, **group.settings, "metric": metric}
            row |= _summary(group, own, confidence, interval)
            row |= {"selected": False, "baseline": other.label if other else ""}
            rows.append(row | _difference(own, theirs, confidence, interval))
    table = pd.DataFrame(rows)
    p = table.groupby("metric", sort=False)["p"]
    table["p_holm"] = p.transform(lambda column: holm(column.to_numpy(dtype=float)))
    table["significant"] = table["p_holm"] < 1 - confidence
    return table


def mark_selected(table: pd.DataFrame, metric: str, *, lowest: bool) -> None:
    """Mark the best mean of a metric, where it is the best of several."""
    means = table.loc[table["metric"] == metric, "mean"]
    if means.notna().sum() > 1:
        table.loc[means.idxmin() if lowest else means.idxmax(), "selected"] = True


def _summary(
    group: Group, values: dict[Replicate, float], confidence: float, interval: Interval
) -> dict[str, Any]:
    s = NO_SUMMARY
    if values:
        s = summarize(np.array([*values.values()]), confidence=confidence, interval=interval)
    spread = {"mean": s.mean, "std": s.std, "low": s.low, "high": s.high}
    return {"runs": len(group.runs), "n": s.n, **spread}


def _difference(
    values: dict[Replicate, float],
    baseline: dict[Replicate, float] | None,
    confidence: float,
    interval: Interval,
) -> dict[str, Any]:
    d = NO_DIFFERENCE
    if baseline is not None:
        d = differ(*paired(values, baseline), confidence=confidence, interval=interval)
    return {
        "pairs": d.pairs,
        "difference": d.mean,
        "difference_low": d.low,
        "difference_high": d.high,
        "effect_size": d.effect_size,
        "p": d.p,
    }
