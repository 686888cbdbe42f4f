"""The metric's mean over two settings."""

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.patches import Rectangle

from stelab.engine.comparison import Comparison
from stelab.engine.comparison.conditions import written
from stelab.engine.comparison.groups import label
from stelab.engine.report.drawing import Drawn, Picture, fit, fold, join_sentences, panels
from stelab.engine.report.numbers import MISSING, number, setting_text
from stelab.engine.terminal import visible

MOST_ROWS, MOST_COLUMNS, MOST_PANELS = 40, 12, 8
_LETTERS = 30  # in a line: any panel has room for them above, below and beside it
_WIDTH, _HEIGHT = 0.5, 0.32  # inches of a cell, at least


def draw_heatmap(comparison: Comparison) -> Picture | None:
    """Draw a cell for each pair of values of two settings; None without two, or of too many."""
    if len(comparison.by) < 2:
        return None
    down, across, *others = comparison.by
    table = comparison.rows(comparison.metric)
    table = table.assign(**{key: table[key].map(setting_text) for key in comparison.by})
    rows, columns = (_values(comparison, key) for key in (down, across))
    parts = {comparison.metric: table}
    if others:
        groups = table.groupby(others, sort=False)
        parts = {label(dict(zip(others, values, strict=True))): part for values, part in groups}
    if len(rows) > MOST_ROWS or len(columns) > MOST_COLUMNS or len(parts) > MOST_PANELS:
        return None
    figure, axes = panels(len(parts), sharex=True)
    shades = ScalarMappable(cmap="cividis" if comparison.better == "lower" else "cividis_r")
    shades.set_clim(table["mean"].min(), table["mean"].max())
    for ax, (title, part) in zip(axes, parts.items(), strict=True):
        cells = {(cell[down], cell[across]): cell for _, cell in part.iterrows()}
        _panel(ax, cells, rows, columns, shades)
        ax.set_title(fold(title, _LETTERS), loc="left")
        ax.set_ylabel(down)
    axes[-1].set_xlabel(across)
    lines = max(1 + fold(row, _LETTERS).count("\n") for row in rows)
    least = max(_WIDTH * len(columns), 0.06 * _LETTERS)
    height = len(rows) * max(_HEIGHT, 0.12 * lines + 0.05)
    fit(figure, height=height, width=(least, math.inf))
    empty = len(rows) * len(columns) * len(parts) - int(table["mean"].notna().sum())
    panel = f", a panel for each {', '.join(others)}" if others else ""
    text = join_sentences(
        f"Each cell has the mean over {', '.join(comparison.replicates)} and the number n of its "
        f"values{panel}.",
        "The darker a cell, the better.",
        f"Hatched cells have no value ({empty})." if empty else "",
    )
    return Picture(figure, Drawn("heatmap", f"{comparison.metric} by {down} and {across}", text))


def _values(comparison: Comparison, key: str) -> list[str]:
    """Return a setting's values, numbers in their order; last, that it has none."""
    values = pd.Series([group.settings[key] for group in comparison.groups])
    return [*map(visible, written(values))] + [MISSING] * bool(values.isna().any())


def _panel(
    ax: Axes, cells: Mapping[Any, Any], rows: list[str], columns: list[str], shades: ScalarMappable
) -> None:
    """Draw a cell for each row and column, the empty ones hatched."""
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        cell = cells.get((row, column))
        if cell is None or np.isnan(cell["mean"]):
            ax.add_patch(Rectangle((j, i), 1, 1, fill=False, hatch="////", edgecolor="0.7"))
            continue
        red, green, blue, _ = shades.to_rgba(cell["mean"])
        ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
        ax.add_patch(Rectangle((j, i), 1, 1, facecolor=(red, green, blue), edgecolor="white"))
        text = f"{number(cell['mean'])}\nn = {cell['n']}"
        ax.text(j + 0.5, i + 0.5, text, color=ink, ha="center", va="center", linespacing=1.0)
    ax.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    upright = len(columns) * max(map(len, columns)) > _LETTERS
    names = [fold(name, _LETTERS) for name in columns]
    ax.set_xticks(np.arange(len(columns)) + 0.5, names, rotation=90 if upright else 0)
    ax.set_yticks(np.arange(len(rows)) + 0.5, [fold(name, _LETTERS) for name in rows])
    ax.tick_params(length=0)
    ax.grid(False)
