"""Metrics over epochs: a line a group, with a band for its mean."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stelab.engine.comparison import Comparison
from stelab.engine.project import project
from stelab.engine.report import drawing, group_styles
from stelab.engine.report.numbers import percent


def draw_curves(comparison: Comparison, *, log_scale: bool) -> drawing.Picture | None:
    """Draw training and validation curves of the metric; linear where values are not positive."""
    split, _, name = comparison.metric.partition("/")
    names = (f"train/{name}", f"val/{name}") if split == "test" else (comparison.metric,)
    return _over_epochs(comparison, "curves", names, log_scale=log_scale, beside=True)


def draw_panels(comparison: Comparison, name: str) -> drawing.Picture | None:
    """Draw a figure that the project declares: its metrics over epochs, one above the other."""
    metrics = project().panels[name]
    return _over_epochs(comparison, name, metrics, log_scale=False, beside=False)


def _over_epochs(
    comparison: Comparison, name: str, metrics: Sequence[str], *, log_scale: bool, beside: bool
) -> drawing.Picture | None:
    """Draw a panel a metric, either beside each other on one scale or one above the other."""
    styles = group_styles.shown_styles(comparison)
    labels = [style.label for style in styles]
    curves = {}
    for metric in metrics:
        table = comparison.mean_curves(metric)
        if len(table := table[table["group"].isin(labels)]):
            curves[metric] = table
    if not curves:
        return None
    shown = pd.concat(curves.values())
    log_scale = log_scale and bool((shown["mean"] > 0).all())
    shape = (1, len(curves)) if beside else (len(curves), 1)
    width = drawing.WIDE if beside else drawing.WIDTH
    figure, axes = drawing.panels(*shape, width=width, sharex=True, sharey=beside)
    cut = False
    for ax, (metric, table) in zip(axes, curves.items(), strict=True):
        _panel(ax, table, styles)
        ax.set_title(metric, loc="left")
        cut |= _limit(ax, shown if beside else table, log_scale=log_scale)
    for ax in axes if beside else axes[-1:]:
        ax.set_xlabel("epoch")
    axes[-1].set_xlim(0.5, shown["epoch"].max() + 0.5)
    drawing.add_legend(figure, axes[0].lines, [style.name() for style in styles])
    drawing.fit(figure, height=2.8 if beside else 1.15)
    last = comparison.curves.groupby(["group", "study", "run"])["epoch"].max()
    end_apart = (last.groupby(comparison.line_of, level="group").nunique() > 1).any()
    text = drawing.join_sentences(
        *_describe(comparison, styles, shown),
        "Bands end where they leave the axes." if cut else "",
        "A line ends with the first of its runs." if end_apart else "",
        "The axis of the values is logarithmic." if log_scale else "",
        group_styles.tell_same(comparison, styles, "line"),
        group_styles.tell_not_shown(comparison),
    )
    title = f"{', '.join(curves)} over epochs"
    return drawing.Picture(figure, drawing.Drawn(name, title, text, wide=beside))


def _panel(ax: Axes, table: pd.DataFrame, styles: Sequence[group_styles.GroupStyle]) -> None:
    """Draw every line, also those without a value, which the legend names."""
    for style in styles:
        curve = table[table["group"] == style.label]
        epochs, low, high = (curve[name].to_numpy() for name in ("epoch", "low", "high"))
        ax.plot(epochs, curve["mean"], **style.style, markevery=max(1, len(epochs) // 8))
        if curve["low"].notna().any():
            ax.fill_between(epochs, low, high, color=style.colour, alpha=0.15, linewidth=0)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=(1, 2, 5, 10)))


def _limit(ax: Axes, table: pd.DataFrame, *, log_scale: bool) -> bool:
    """Fit the axis to means and typical bands (huge where n = 2); return whether one is cut off."""
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
        drawing.set_log(ax, "y")
    else:
        ax.set_ylim(low, high)
    return bool(lows.min() < low or highs.max() > high)


def _describe(
    comparison: Comparison, styles: Sequence[group_styles.GroupStyle], shown: pd.DataFrame
) -> list[str]:
    """Write what lines and bands are, and which are missing."""
    counts = shown.groupby("group")["n"].max()
    single = [style.label for style in styles if counts.get(style.label) == 1]
    without = [style.label for style in styles if style.label not in counts]
    n = " to ".join(str(value) for value in sorted({counts.min(), counts.max()}))
    return [
        f"Each line is the mean over {', '.join(comparison.replicates)} (n = {n}); "
        f"the {comparison.best_end} {comparison.metric} comes first.",
        f"Bands are its intervals of {percent(comparison.confidence)} (Student's t), pointwise: "
        "for each epoch by itself."
        if counts.max() > 1
        else "",
        group_styles.tell_single(single, len(styles), "band"),
        f"Without values: {'; '.join(without)}." if without else "",
    ]
