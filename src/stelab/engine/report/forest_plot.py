"""Where each group ended: its mean with an interval, and each of its replicates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stelab.engine.comparison import Comparison
from stelab.engine.report.drawing import Drawn, Picture, fit, join_sentences, panels
from stelab.engine.report.group_styles import GroupStyle, all_styles, tell_same, tell_single
from stelab.engine.report.numbers import number, percent

MOST = 30  # rows in one figure; of more, the best and the baselines
# Typical intervals from the best to where the axis ends: beyond, no others could be told apart.
FAR = 20
_FOLD = 31


def draw_forest_plot(comparison: Comparison) -> Picture:
    """Draw the metric's mean and interval of each group, the best on top."""
    rows = _rows(comparison)
    measured = [style for style in all_styles(comparison) if style.label in rows.index]
    styles = [style for i, style in enumerate(measured) if i < MOST or style.is_baseline]
    rows = rows.loc[[style.label for style in styles]]
    figure, (ax,) = panels()
    places = _places(ax, [style.name(_FOLD) for style in styles])
    low, high = _limits(rows, comparison)
    for style, place in zip(styles, places, strict=True):
        row = rows.loc[style.label]
        if low <= row["mean"] <= high:
            _point(ax, row, place, style)
        else:
            _arrow(ax, row["mean"], place, style.colour, right=row["mean"] > high)
        if row["significant"]:
            ax.text(1.05, place, "*", transform=ax.get_yaxis_transform(), va="center_baseline")
    margin = 0.05 * (high - low) or 0.05 * abs(low) or 0.05
    ax.set_xlim(low - margin, high + margin)
    ax.set_xlabel(comparison.metric)
    fit(figure, height=abs(np.subtract(*ax.get_ylim())))
    hidden = len(measured) - len(styles)
    interval = "Student's t" if comparison.interval == "t" else "bootstrap"
    bars = f"bars their intervals of {percent(comparison.confidence)} ({interval}), "
    p = f"p, paired and corrected (Holm), is below {comparison.alpha:g}"
    text = join_sentences(
        f"Points are means, {bars if rows['n'].max() > 1 else ''}small marks the values of each "
        f"{', '.join(comparison.replicates)}.",
        f"A star: differs from its baseline; {p}." if rows["significant"].any() else "",
        "" if rows["mean"].between(low, high).all() else "Arrows: means beyond the axis.",
        tell_single([str(label) for label in rows.index[rows["n"] == 1]], len(rows), "bar"),
        tell_same(comparison, styles, "row"),
        f"{hidden} more are not shown." if hidden else "",
    )
    title = f"{comparison.metric} of each group, the best on top"
    return Picture(figure, Drawn("points", title, text))


def _rows(comparison: Comparison) -> pd.DataFrame:
    """Return the metric's row and `values` of each line that has any; its first group's."""
    table = comparison.rows(comparison.metric).dropna(subset="mean")
    groups = {group.label: group for group in comparison.groups}
    values = [[*groups[label].values(comparison.metric).values()] for label in table["group"]]
    table = table.assign(line=table["group"].map(comparison.line_of), values=values)
    return table.drop_duplicates("line").set_index("line")


def _places(ax: Axes, names: Sequence[str]) -> Any:
    """Write a name a row; return where the rows are, in inches from the top."""
    heights = np.array([0.09 + 0.12 * (1 + name.count("\n")) for name in names])
    places = np.cumsum(heights) - heights / 2
    ax.set_yticks(places, names)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(heights.sum() + 0.05, -0.05)
    ax.grid(False, axis="y")
    ax.xaxis.set_major_locator(MaxNLocator(4))
    return places


def _limits(rows: pd.DataFrame, comparison: Comparison) -> tuple[float, float]:
    """Return the ends of the axis: those of all values, or of those not `FAR` from the best."""
    best = rows["mean"].min() if comparison.better == "lower" else rows["mean"].max()
    far = (rows["mean"] - best).abs() > FAR * (rows["high"] - rows["low"]).median()

    def ends(rows: pd.DataFrame) -> tuple[float, float]:
        values = np.concatenate([*rows["values"], rows["low"].dropna(), rows["high"].dropna()])
        return float(values.min()), float(values.max())

    of_all, near = ends(rows), ends(rows[~far])
    return near if np.ptp(of_all) > 2 * np.ptp(near) > 0 else of_all


def _point(ax: Axes, row: Any, place: float, style: GroupStyle) -> None:
    below = [place + 0.065] * len(row["values"])
    ax.plot(row["values"], below, "|", color="0.2", alpha=0.5, markersize=2.5)
    ax.plot([row["low"], row["high"]], [place, place], "-", color=style.colour, linewidth=1.4)
    ax.plot([row["mean"]], [place], **{**style.points, "markersize": 4})


def _arrow(ax: Axes, mean: float, place: float, colour: str, *, right: bool) -> None:
    """Write a mean beyond the axis at its edge."""
    edge, side, marker, text = (1, "right", ">", 0.94) if right else (0, "left", "<", 0.06)
    transform = ax.get_yaxis_transform()
    ax.plot([edge], [place], marker, color=colour, transform=transform, clip_on=False)
    ax.text(text, place, number(mean), transform=transform, ha=side, va="center_baseline")
