"""Curves of groups: the mean over replicates, epoch by epoch, with its interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from stelab.engine.comparison.compare import Comparison


def mean_curves(comparison: Comparison, metric: str) -> pd.DataFrame:
    """Return `group`, `epoch`, `n`, `mean`, `low`, `high`; identical groups are one.

    The interval is Student's, for the mean over replicates of each epoch by itself, not for the
    whole curve; NaN where there is one replicate. The table is empty where no run has the metric.

    A group's curve ends with the first of its runs, as of those that early stopping ended: the
    mean of those that went on is of another sample, and would jump.
    """
    columns = ["group", "epoch", "n", "mean", "low", "high"]
    curves = comparison.curves
    if metric not in curves:
        return pd.DataFrame(columns=columns)
    curves = curves.assign(group=curves["group"].map(comparison.line_of))
    lengths = curves.groupby(["group", "study", "run"])["epoch"].max()
    shared = curves["epoch"] <= curves["group"].map(lengths.groupby("group").min())
    curves = curves[shared].dropna(subset=[metric])
    # Identical groups, and keys that are not grouped by, give a replicate several curves. Sorted,
    # so that sums do not depend on the order of runs.
    replicates = curves.sort_values(metric).groupby(["group", "epoch", "replicate"])[metric].mean()
    table = replicates.groupby(["group", "epoch"]).agg(["count", "mean", "sem"]).reset_index()
    n, mean, sem = (table[name].to_numpy() for name in ("count", "mean", "sem"))
    with np.errstate(invalid="ignore", divide="ignore"):
        half = stats.t.ppf((1 + comparison.confidence) / 2, np.where(n > 1, n - 1, np.nan)) * sem
    return table.assign(n=n, low=mean - half, high=mean + half)[columns]
