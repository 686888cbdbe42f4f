"""Runs as points: what an error costs, and how it depends on a number that was swept."""

import math

import pandas as pd
from matplotlib.axes import Axes
from pandas.api.types import is_numeric_dtype

from stelab.engine.comparison import Comparison
from stelab.engine.comparison.conditions import write_value
from stelab.engine.comparison.notes import machines
from stelab.engine.report import drawing
from stelab.engine.report.group_styles import MOST, all_styles, shown_styles, tell_not_shown
from stelab.engine.report.numbers import number

SECONDS = "timings.seconds"
_GREY = "0.45"
_FEW = 5  # values that a heatmap or a table shows better


def draw_wall_clock(comparison: Comparison) -> drawing.Picture | None:
    """Draw the metric of each run against the seconds that it took; None without any."""
    metric, styles = comparison.metric, shown_styles(comparison)
    runs = comparison.runs.dropna(subset=[metric, SECONDS]).sort_values([SECONDS, metric])
    runs = runs.assign(line=runs["group"].map(comparison.line_of))
    runs = runs[runs["line"].isin([style.label for style in styles])]
    if runs.empty or metric == SECONDS:
        return None
    figure, (ax,) = drawing.panels()
    for style in styles:
        part = runs[runs["line"] == style.label]
        ax.plot(part[SECONDS], part[metric], **style.points)
    _scale(ax, runs[SECONDS])
    ax.set(xlabel="seconds", ylabel=metric)
    drawing.add_legend(figure, ax.lines, [style.name() for style in styles])
    drawing.fit(figure, height=2.0)
    end = "Lower" if comparison.better == "lower" else "Upper"
    text = f"A point a run, on {machines(runs)}. {end} left is cheap and good."
    text = drawing.join_sentences(text, tell_not_shown(comparison))
    title = f"{metric} against seconds of training"
    return drawing.Picture(figure, drawing.Drawn("wall_clock", title, text))


def draw_slices(comparison: Comparison) -> drawing.Picture | None:
    """Draw the metric of each run against each number that was swept; None without any."""
    metric, styles = comparison.metric, all_styles(comparison)
    colours = {style.label: style.colour for style in styles} if len(styles) <= MOST else {}
    runs = comparison.runs.dropna(subset=[metric])
    lines = runs["group"].map(comparison.line_of)
    runs = runs.assign(colour=[colours.get(line, _GREY) for line in lines])
    swept = [key for key in comparison.study.swept if key not in comparison.replicates]
    keys = [key for key in swept if is_numeric_dtype(runs[key]) and runs[key].nunique() > _FEW]
    if not keys:
        return None
    ascending = [comparison.better == "lower", True, True]
    best = runs.sort_values([metric, "study", "run"], ascending=ascending).iloc[0]
    columns = min(len(keys), 2)
    figure, axes = drawing.panels(math.ceil(len(keys) / columns), columns, sharey=True)
    for ax, key in zip(axes, keys, strict=False):
        having = runs.dropna(subset=[key]).sort_values([key, metric])
        for colour, part in having.groupby("colour"):
            ax.plot(part[key], part[metric], "o", color=colour, mec="white", mew=0.4)
        ax.plot(best[key], best[metric], "*", color=best["colour"], ms=9, mec="black", mew=0.6)
        _scale(ax, having[key])
        ax.set_xlabel(key)
    for ax in axes[::columns]:
        ax.set_ylabel(metric)
    for ax in axes[len(keys) :]:
        ax.remove()
    drawing.fit(figure, height=1.6)
    where = ", ".join(f"{key}={write_value(best[key])}" for key in keys if pd.notna(best[key]))
    text = (
        f"A point a run. The star is {best['run']}, selected as the best of {len(runs)} runs by "
        f"this very number: {number(best[metric])} at {where}."
    )
    title = f"{metric} against {', '.join(keys)}"
    return drawing.Picture(figure, drawing.Drawn("slices", title, text))


def _scale(ax: Axes, values: pd.Series) -> None:
    """Make the x axis of points logarithmic where values are positive and range over 30 times."""
    if values.min() > 0 and values.max() / values.min() > 30:
        drawing.set_log(ax, "x")
