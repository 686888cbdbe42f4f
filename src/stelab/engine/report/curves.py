"""Metrics over epochs: a line a group, with a band for its mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stelab.engine.comparison import Comparison
from stelab.engine.comparison.mean_curves import mean_curves
from stelab.engine.project import project
from stelab.engine.report.drawing import (
    WIDE,
    WIDTH,
    Drawn,
    Picture,
    add_legend,
    fit,
    panels,
    set_log,
)
from stelab.engine.report.group_styles import (
    GroupStyle,
    shown_styles,
    tell_not_shown,
    tell_same,
    tell_single,
)
from stelab.engine.report.numbers import percent


def draw_curves(comparison: Comparison, *, log_scale: bool) -> Picture | None:
    """Draw training and validation curves of the metric, the largest figure; None without any.

    Args:
        comparison: The groups.
        log_scale: Whether the metric's axis is logarithmic; it is linear where values are not
            positive.
    """
    split, _, name = comparison.metric.partition("/")
    names = (f"train/{name}", f"val/{name}") if split == "test" else (comparison.metric,)
    return _over_epochs(comparison, "curves", names, log_scale=log_scale, beside=True)


def draw_panels(comparison: Comparison, name: str) -> Picture | None:
    """Draw a figure that the project declares: its metrics over epochs, one above the other."""
    metrics = project().panels[name]
    return _over_epochs(comparison, name, metrics, log_scale=False, beside=False)


def _over_epochs(
    comparison: Comparison, name: str, metrics: Sequence[str], *, log_scale: bool, beside: bool
) -> Picture | None:
    """Draw a panel a metric, either beside each other on one scale or one above the other."""
    lines = shown_styles(comparison)
    tables = _tables(comparison, metrics, lines)
    if not tables:
        return None
    shown = pd.concat(tables.values())
    log_scale = log_scale and bool((shown["mean"] > 0).all())
    names = [line.name() for line in lines]
    shape = (1, len(tables)) if beside else (len(tables), 1)
    width = WIDE if beside else WIDTH
    figure, axes = panels(*shape, width=width, sharex=True, sharey=beside)
    cut = False
    for ax, (metric, table) in zip(axes, tables.items(), strict=True):
        _panel(ax, table, lines, title=metric)
        cut |= _limit(ax, shown if beside else table, log_scale=log_scale)
    for ax in axes if beside else axes[-1:]:
        ax.set_xlabel("epoch")
    axes[-1].set_xlim(0.5, shown["epoch"].max() + 0.5)
    add_legend(figure, axes[0].lines, names)
    fit(figure, height=2.8 if beside else 1.15)
    title = f"{', '.join(tables)} over epochs"
    text = _text(comparison, lines, shown, log_scale=log_scale, cut=cut)
    return Picture(figure, Drawn(name, title, text, wide=beside))


def _tables(
    comparison: Comparison, metrics: Sequence[str], styles: Sequence[GroupStyle]
) -> dict[str, pd.DataFrame]:
    """Return the bands of those metrics and lines that have any."""
    labels = [line.label for line in styles]
    tables = {metric: mean_curves(comparison, metric) for metric in metrics}
    shown = {metric: table[table["group"].isin(labels)] for metric, table in tables.items()}
    return {metric: table for metric, table in shown.items() if len(table)}


def _panel(ax: Axes, table: pd.DataFrame, styles: Sequence[GroupStyle], *, title: str) -> None:
    """Draw every line, also those without a value, which the legend names."""
    for line in styles:
        own = table[table["group"] == line.label]
        epochs = own["epoch"].to_numpy()
        every = max(1, len(epochs) // 8)
        ax.plot(epochs, own["mean"].to_numpy(), **line.style, markevery=every)
        if own["low"].notna().any():
            low, high = own["low"].to_numpy(), own["high"].to_numpy()
            ax.fill_between(epochs, low, high, color=line.colour, alpha=0.15, linewidth=0)
    ax.set_title(title, loc="left")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=(1, 2, 5, 10)))


def _limit(ax: Axes, table: pd.DataFrame, *, log_scale: bool) -> bool:
    """Fit the axis to means and typical bands; tell whether a band is cut off.

    The interval of two replicates may be ten times as wide as those of others.
    """
    means, lows, highs = (table[name].to_numpy(dtype=float) for name in ("mean", "low", "high"))
    lows, highs = np.fmin(lows, means), np.fmax(highs, means)
    if log_scale:
        means, lows, highs = (np.log10(np.maximum(v, 1e-300)) for v in (means, lows, highs))
    room = max(np.ptp(means) / 2, float(np.median(highs - lows)))
    low, high = max(lows.min(), means.min() - room), min(highs.max(), means.max() + room)
    high += (high == low) * (abs(low) or 1)
    margin = 0.04 * (high - low)
    low, high = low - margin, high + margin
    if log_scale:
        ax.set_ylim(10**low, 10**high)
        set_log(ax, "y")
    else:
        ax.set_ylim(low, high)
    return bool(lows.min() < low or highs.max() > high)


def _end_apart(comparison: Comparison) -> bool:
    """Tell whether runs of one line were trained for different numbers of epochs."""
    runs = comparison.curves.groupby(["group", "study", "run"])["epoch"].max()
    return bool((runs.groupby(comparison.line_of, level="group").nunique() > 1).any())


def _text(
    comparison: Comparison,
    styles: Sequence[GroupStyle],
    shown: pd.DataFrame,
    *,
    log_scale: bool,
    cut: bool,
) -> str:
    """Say what lines and bands are, and which are missing, shared or cut off."""
    counts = shown.groupby("group")["n"].max()
    alone = [line.label for line in styles if counts.get(line.label) == 1]
    without = [line.label for line in styles if line.label not in counts]
    n = " to ".join(str(value) for value in sorted({counts.min(), counts.max()}))
    sentences = [
        f"Each line is the mean over {', '.join(comparison.replicates)} (n = {n}); "
        f"the {comparison.best_end} {comparison.metric} comes first.",
        f"Bands are its intervals of {percent(comparison.confidence)} (Student's t), pointwise: "
        "for each epoch by itself."
        if counts.max() > 1
        else "",
        tell_single(alone, len(styles), "band"),
        f"Without values: {'; '.join(without)}." if without else "",
        "Bands end where they leave the axes." if cut else "",
        "A line ends with the first of its runs." if _end_apart(comparison) else "",
        "The axis of the values is logarithmic." if log_scale else "",
        tell_same(comparison, styles, "line"),
        tell_not_shown(comparison),
    ]
    return " ".join(sentence for sentence in sentences if sentence)
