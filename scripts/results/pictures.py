"""Curves of an experiment: a line a setting, the mean over its seeds, with their range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from results.measured import Runs, of_setting
from results.published import Published, written
from stelab.engine.report.drawing import COLOURS, DASHES, set_log

if TYPE_CHECKING:
    from pandas.api.typing import SeriesGroupBy

DPI = 100


def draw_curves(
    published: Sequence[Published], runs: Runs, metrics: Sequence[str]
) -> Figure | None:
    """Draw metrics over epochs, and what was published for the end of training as a dot.

    A line is of a setting, and where there are several, of a metric; a panel has those that share
    the first key's value.
    """
    ends = [p for p in published if p.seed is None and p.epoch is None]
    settings = {tuple(row.setting.items()): row.setting for row in ends}.values()
    panels: dict[str, list[_Line]] = {}
    for setting in settings:
        for metric in metrics:
            if len(curves := _curves(setting, metric, runs)):
                (key, first), *others = setting.items()
                names = [written(value) for _, value in others]
                label = ", ".join(names + [metric] * (len(metrics) > 1 or not names))
                dots = [p.value for p in ends if p.setting == setting and p.metric == metric]
                line = _Line(label, curves.groupby("epoch")[metric], dots)
                panels.setdefault(f"{key} = {written(first)}", []).append(line)
    if not panels:
        return None
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        return _figure(panels, metrics)


@dataclass(frozen=True)
class _Line:
    label: str
    by_epoch: SeriesGroupBy[float, float]
    published: list[float]

    def draw(self, ax: Axes, number: int) -> Line2D:
        """Draw it in the colours of that number."""
        mean, low, high = self.by_epoch.mean(), self.by_epoch.min(), self.by_epoch.max()
        colour = COLOURS[number % len(COLOURS)]
        dashes = DASHES[number // len(COLOURS) % len(DASHES)]
        (line,) = ax.plot(mean.index, mean, color=colour, linestyle=dashes, linewidth=1)
        ax.fill_between(mean.index, low, high, color=colour, alpha=0.2, linewidth=0)
        for value in self.published:
            ax.plot(mean.index[-1], value, "o", color=colour, markersize=4, clip_on=False)
        return line


def _figure(panels: Mapping[str, Sequence[_Line]], metrics: Sequence[str]) -> Figure:
    numbers: dict[str, int] = {}
    for line in (line for lines in panels.values() for line in lines):
        numbers.setdefault(line.label, len(numbers))
    figure = Figure(figsize=(2 + 2.8 * len(panels), 3), layout="constrained")
    handles: dict[str, Line2D] = {}
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        for line in lines:
            handles[line.label] = line.draw(ax, numbers[line.label])
        ax.set(title=title, xlabel="epoch")
        set_log(ax, "x")
        set_log(ax, "y")
    if len(metrics) == 1:
        axes[0].set_ylabel(metrics[0])
    figure.legend([*handles.values()], [*handles], frameon=False, loc="outside right upper")
    return figure


def _curves(setting: Mapping[str, str | float], metric: str, runs: Runs) -> pd.DataFrame:
    if metric not in runs.curves:
        return pd.DataFrame()
    names = of_setting(runs.table, setting)["run"]
    curves = runs.curves[runs.curves["run"].isin(names)]
    return curves[curves[metric].notna()]
