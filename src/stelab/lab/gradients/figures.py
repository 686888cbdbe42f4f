"""Measured gradients as a printed table and as figures."""

import math
from collections.abc import Sequence
from itertools import cycle
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stelab.engine.report.console import Column, PlainConsole, console, print_table
from stelab.engine.report.drawing import COLOURS, DASHES, set_log
from stelab.lab.gradients.sweep import Row

_NEGLIGIBLE = 1e-12  # rounding, relative to the gradient


def print_measurements(rows: Sequence[Row], *, to: PlainConsole | None = None) -> None:
    """Print a line for each row; a bias that was sampled has its interval of 95 %."""
    print_table(_COLUMNS, rows, to or console())


def _bias(row: Row) -> str:
    m = row.measurement
    return f"{m.bias:.3f}" + (f" [{m.bias_low:.3f}, {m.bias_high:.3f}]" if m.samples else "")


def _measured(name: str, form: str, **options: Any) -> Column:
    return Column(name, lambda row: form.format(row.measurement), "number", **options)


_BELOW: Any = {"turn": 1, "below": True}
_COLUMNS = (
    Column("estimator", attrgetter("label"), least=12),
    Column("against", attrgetter("reference"), **_BELOW),
    _measured("MSE", "{0.mse:.4g}"),
    Column("bias", _bias, "number"),
    _measured("variance", "{0.variance:.3g}", **_BELOW),
    _measured("SNR", "{0.snr:.3g}", turn=2, below=True),
    _measured("cos", "{0.cosine:.3g}"),
    _measured("cos of one", "{0.sample_cosine:.3g}", **_BELOW),
    _measured("scaled bias", "{0.scaled_bias:.3g}"),
    _measured("scaled var", "{0.scaled_variance:.3g}", **_BELOW),
    _measured("evals", "{0.evaluations}", turn=2, below=True),
    _measured("µs", "{0.microseconds:.1f}", **_BELOW),
)


def draw_measurements(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """Draw the figures that these rows allow; return their paths."""
    with mpl.rc_context({"text.parse_math": False}):  # a dollar in a name is a dollar
        figures = {"bias_variance": scatter(rows), "errors": bars(rows), "sweep": _curves(rows)}
        paths = {folder / f"{name}.png": figure for name, figure in figures.items() if figure}
        for path, figure in paths.items():
            figure.savefig(path, dpi=120)
    return list(paths)


def _drawable(rows: Sequence[Row]) -> pd.DataFrame:
    """Keep one row an estimator, against its own noise where it has one, if it can be scaled."""
    table = pd.DataFrame([{**vars(row), **vars(row.measurement)} for row in rows])
    own = table["reference"] == "own"
    table["name"] = table["label"].where(~own, table["label"] + " (own noise)")
    others = ~table["label"].isin(table.loc[own, "label"])
    return table[own | others].dropna(subset=["scaled_bias"])


def scatter(rows: Sequence[Row]) -> Figure:
    """Draw scaled bias against scaled variance, and rank the estimators that have only one."""
    shown = _drawable(rows)
    is_steady = shown["variance"] < _NEGLIGIBLE
    is_unbiased = ~is_steady & (shown["bias_low"] < _NEGLIGIBLE)
    both = shown[~is_steady & ~is_unbiased]
    height = 1.2 + 0.19 * max(is_steady.sum(), is_unbiased.sum(), 14)
    figure = Figure(figsize=(13, height), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1.3, 1))
    _ranking(left, shown[is_unbiased], "scaled_variance", "no bias found: scaled variance")
    points = zip(both["scaled_bias"], both["scaled_variance"], cycle(COLOURS), strict=False)
    for x, y, colour in points:
        middle.plot(x, y, "o", color=colour)
    last = -math.inf
    for row in both.sort_values("scaled_variance", kind="stable").itertuples():
        x, y = row.scaled_bias, row.scaled_variance
        last = max(math.log10(y), last + 0.045)  # names stand at least a line apart
        middle.annotate(row.name, (x, y), (x * 1.12, 10**last), fontsize=8, va="center")
    middle.margins(x=0.4, y=0.1)
    if len(both):
        set_log(middle, "x")
        set_log(middle, "y")
    middle.set(xlabel="scaled bias", ylabel="scaled variance")
    middle.set_title("bias and variance", fontsize=10)
    middle.grid(alpha=0.3, which="both")
    _ranking(right, shown[is_steady], "scaled_bias", "no variance: scaled bias")
    return figure


def _ranking(ax: Axes, table: pd.DataFrame, column: str, title: str) -> None:
    """Draw a dot a row, the smallest value on top."""
    table = table.sort_values(column, ascending=False, kind="stable")
    ax.plot(table[column], range(len(table)), "o", color=COLOURS[0])
    ax.set_yticks(range(len(table)), table["name"], fontsize=8)
    if (table[column] > _NEGLIGIBLE).any():
        _set_symlog(ax)
        ax.set_xlim(0, 2 * table[column].max())
    ax.set_title(title, fontsize=10)
    ax.grid(alpha=0.3)


def _set_symlog(ax: Axes) -> None:
    ax.set_xscale("symlog", linthresh=0.01)
    ax.xaxis.set_major_formatter("{x:g}")  # its own would be in dollars, see `draw_measurements`


def bars(rows: Sequence[Row]) -> Figure:
    """Draw squared bias and variance after scaling, the smallest sum on top."""
    shown = _drawable(rows)
    shown["squared_bias"] = shown["scaled_bias"] ** 2
    shown["error"] = shown["squared_bias"] + shown["scaled_variance"]
    shown = shown.sort_values("error", ascending=False, kind="stable")
    places = np.arange(len(shown))
    figure = Figure(figsize=(7, 1.2 + 0.24 * len(shown)), layout="constrained")
    ax = figure.subplots()
    ax.barh(places + 0.2, shown["squared_bias"], 0.4, color=COLOURS[1], label="bias²")
    ax.barh(places - 0.2, shown["scaled_variance"], 0.4, color=COLOURS[0], label="variance")
    ax.set_yticks(places, shown["name"], fontsize=7)
    _set_symlog(ax)
    ax.set_xlim(left=0)
    ax.margins(y=0.01)
    ax.set_xlabel("scaled squared error of the gradient, relative")
    ax.legend(fontsize=8)
    ax.grid(alpha=0.3, axis="x")
    return figure


def _curves(rows: Sequence[Row]) -> Figure | None:
    """Draw bias, variance and MSE over a number that was swept, if there is one."""
    lines: dict[tuple[str, str, str], list[tuple[float, Row]]] = {}
    for row in rows:
        if len(row.swept) == 1:
            ((key, value),) = row.swept.items()
            if isinstance(value, int | float):
                lines.setdefault((row.estimator, row.reference, key), []).append((value, row))
    if not lines:
        return None
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    for ax, name in zip(figure.subplots(1, 3), ("bias", "variance", "mse"), strict=True):
        for i, ((estimator, reference, _), points) in enumerate(lines.items()):
            points = sorted(points, key=itemgetter(0))
            values = [getattr(row.measurement, name) for _, row in points]
            colour, dashes = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
            label = f"{estimator} ({reference})"
            ax.plot([x for x, _ in points], values, dashes, marker=".", color=colour, label=label)
        ax.set_xlabel(", ".join(dict.fromkeys(key for _, _, key in lines)))
        ax.set_title(f"relative {name}", fontsize=10)
        ax.grid(alpha=0.3)
    ax.legend(fontsize=7)
    return figure
