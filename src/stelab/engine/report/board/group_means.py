"""The means of groups as runs of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from stelab.engine.comparison import Comparison
from stelab.engine.comparison.mean_curves import mean_curves
from stelab.engine.project import project
from stelab.engine.report.board.events import Step, scalar


def curve_names(comparison: Comparison) -> list[str]:
    """Return the metrics that have a value an epoch, losses first."""
    names = [name for name in comparison.study.curves.columns if "/" in name]
    first = (*project().live, *reversed(project().losses))
    found = [name for name in first if name in names]
    return found + [name for name in names if name.startswith(project().families)]


def mean_runs(comparison: Comparison) -> dict[str, list[Step]]:
    """Return a run for each line of a figure: ``mean/*``, ``lower/*`` and ``upper/*``.

    Its name says n. The mean of one replicate has no interval, so its band has no width.
    """
    table = _table(comparison)
    found = {}
    for line in comparison.lines:
        rows = table[table["group"] == line]
        n = rows["n"].max()
        note = f"n = {n}" if n > 1 else "n = 1, no interval"
        found[f"mean of {line} ({note})"] = list(_steps(rows))
    return found


def _table(comparison: Comparison) -> pd.DataFrame:
    """Return the bands of all metrics, with the step at which runs logged them."""
    curves = comparison.curves
    lines = curves["group"].map(comparison.line_of)
    # Lightning logs an epoch at its last step, counted from 0.
    steps = curves.groupby([lines, "epoch"], as_index=False)["step"].max()
    metrics = curve_names(comparison)
    table = pd.concat([mean_curves(comparison, name).assign(metric=name) for name in metrics])
    return table.merge(steps.assign(step=steps["step"] - 1), on=["group", "epoch"])


def _steps(rows: pd.DataFrame) -> Iterator[Step]:
    for row in rows.to_dict("records"):
        alone = row["n"] == 1
        band = {"mean": row["mean"], "lower": row["low"], "upper": row["high"]}
        for part, value in band.items():
            tag = f"{part}/{row['metric']}"
            yield row["step"], scalar(tag, row["mean"] if alone else value)
