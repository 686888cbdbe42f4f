"""Curves of an experiment: a line a setting, the mean over its seeds, with their range."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from results.measured import Runs, of_setting
from results.published import Published, written
from stelab.engine.report.drawing import COLOURS, DASHES

DPI = 100


def draw_curves(published: Sequence[Published], runs: Runs, metric: str) -> Figure | None:
    """Draw a metric over epochs, and what was published for the end of training as a dot."""
    ends = [p for p in published if p.seed is None and p.epoch is None]
    lines = [(row, curves) for row in ends if len(curves := _curves(row, runs))]
    if not lines:
        return None
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        ax = figure.add_subplot()
        for number, (row, curves) in enumerate(lines):
            by_epoch = curves.groupby("epoch")[metric]
            mean, low, high = by_epoch.mean(), by_epoch.min(), by_epoch.max()
            colour = COLOURS[number % len(COLOURS)]
            dashes = DASHES[number // len(COLOURS) % len(DASHES)]
            label = ", ".join(map(written, row.setting.values()))
            ax.plot(mean.index, mean, color=colour, linestyle=dashes, label=label, linewidth=1)
            ax.fill_between(mean.index, low, high, color=colour, alpha=0.2, linewidth=0)
            if row.metric == metric:
                ax.plot(mean.index[-1], row.value, "o", color=colour, markersize=4, clip_on=False)
        ax.set(xscale="log", xlabel="epoch", ylabel=metric, yscale="log")
        ax.yaxis.set_minor_formatter("{x:g}")
        ax.legend(frameon=False, ncols=2)
        return figure


def _curves(row: Published, runs: Runs) -> pd.DataFrame:
    names = of_setting(runs.table, row.setting)["run"]
    return runs.curves[runs.curves["run"].isin(names)]
