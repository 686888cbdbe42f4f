"""Runs as points: what an error costs, and how it depends on a number that was swept."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from pandas.api.types import is_numeric_dtype

from stelab.engine.comparison import Comparison
from stelab.engine.comparison.conditions import write_value
from stelab.engine.comparison.hardware import machines
from stelab.engine.report.drawing import (
    Drawn,
    Picture,
    add_legend,
    fit,
    panels,
    set_log,
    spans_widely,
)
from stelab.engine.report.group_styles import MOST, all_styles, shown_styles, tell_not_shown
from stelab.engine.report.numbers import number

SECONDS = "timings.seconds"
_GREY = "0.45"
_FEW = 5  # values that a heatmap or a table shows better


def draw_wall_clock(comparison: Comparison) -> Picture | None:
    """Draw the metric of each run against the seconds that it took; None without any."""
    lines = shown_styles(comparison)
    runs = comparison.runs.dropna(subset=[comparison.metric, SECONDS])
    runs = runs.assign(line=runs["group"].map(comparison.line_of))
    runs = runs[runs["line"].isin([line.label for line in lines])]
    if runs.empty or comparison.metric == SECONDS:
        return None
    names = [line.name() for line in lines]
    figure, (ax,) = panels()
    for line in lines:
        own = runs[runs["line"] == line.label].sort_values([SECONDS, comparison.metric])
        ax.plot(own[SECONDS], own[comparison.metric], **line.points)
    _scale(ax, runs[SECONDS])
    ax.set_xlabel("seconds")
    ax.set_ylabel(comparison.metric)
    add_legend(figure, ax.lines, names)
    fit(figure, height=2.0)
    title = f"{comparison.metric} against seconds of training"
    end = "Lower" if comparison.better == "lower" else "Upper"
    text = f"A point a run, on {machines(runs)}. {end} left is cheap and good."
    text = f"{text} {tell_not_shown(comparison)}".strip()
    return Picture(figure, Drawn("wall_clock", title, text))


def draw_slices(comparison: Comparison) -> Picture | None:
    """Draw the metric of each run against each number that was swept; None without any."""
    runs = comparison.runs.dropna(subset=[comparison.metric])
    keys = [key for key in comparison.study.swept if _is_sliced(key, runs, comparison)]
    if not keys:
        return None
    best = runs.sort_values(
        [comparison.metric, "study", "run"], ascending=[comparison.better == "lower", True, True]
    ).iloc[0]
    columns = min(len(keys), 2)
    figure, axes = panels(math.ceil(len(keys) / columns), columns, sharey=True)
    colours = _colours(comparison, runs)
    for ax, key in zip(axes, keys, strict=False):
        _slice(ax, runs.assign(colour=colours), key, comparison.metric, best)
    for ax in axes[::columns]:
        ax.set_ylabel(comparison.metric)
    for ax in axes[len(keys) :]:
        ax.remove()
    fit(figure, height=1.6)
    return Picture(figure, _slices_drawn(comparison, keys, best, of=len(runs)))


def _colours(comparison: Comparison, runs: pd.DataFrame) -> pd.Series:
    """Return the colour of each run's group; grey where groups are too many to have their own."""
    lines = all_styles(comparison)
    colours = {line.label: line.colour for line in lines} if len(lines) <= MOST else {}
    return runs["group"].map(comparison.line_of).map(lambda label: colours.get(label, _GREY))


def _slice(ax: Axes, runs: pd.DataFrame, key: str, metric: str, best: Any) -> None:
    own = runs.dropna(subset=[key]).sort_values([key, metric])
    for colour, part in own.groupby("colour"):
        edge: dict[str, Any] = {"markeredgewidth": 0.4, "markeredgecolor": "white"}
        ax.plot(part[key], part[metric], "o", color=colour, **edge)
    colour = runs.loc[best.name, "colour"]
    edge = {"markeredgewidth": 0.6, "markeredgecolor": "black"}
    ax.plot([best[key]], [best[metric]], "*", color=colour, markersize=9, **edge)
    _scale(ax, own[key])
    ax.set_xlabel(key)


def _is_sliced(key: str, runs: pd.DataFrame, comparison: Comparison) -> bool:
    repeats = key in comparison.replicates
    return not repeats and is_numeric_dtype(runs[key]) and runs[key].nunique() > _FEW


def _slices_drawn(comparison: Comparison, keys: list[str], best: Any, *, of: int) -> Drawn:
    title = f"{comparison.metric} against {', '.join(keys)}"
    where = ", ".join(f"{key}={write_value(best[key])}" for key in keys if pd.notna(best[key]))
    text = (
        f"A point a run. The star is {best['run']}, selected as the best of {of} runs by this very "
        f"number: {number(best[comparison.metric])} at {where}."
    )
    return Drawn("slices", title, text)


def _scale(ax: Axes, values: pd.Series) -> None:
    if spans_widely(values):
        set_log(ax, "x")
