"""Measured gradients as a printed table and as figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stelab.engine.report.console import Column, PlainConsole, console, print_table
from stelab.engine.report.drawing import COLOURS, DASHES, set_log
from stelab.lab.gradients.sweep import Row

_NEGLIGIBLE = 1e-12  # rounding, relative to the gradient


def print_measurements(rows: Sequence[Row], *, to: PlainConsole | None = None) -> None:
    """Print a line for each row, to standard output unless told otherwise.

    A bias that was sampled has its interval of 95 %.
    """
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


def _drawable(rows: Sequence[Row]) -> list[Row]:
    """Keep one row an estimator, against its own noise where it has one, if it can be scaled."""
    own = {row.label for row in rows if row.reference == "own"}
    firsts = [row for row in rows if row.reference == "own" or row.label not in own]
    return [row for row in firsts if not math.isnan(row.measurement.scaled_bias)]


def scatter(rows: Sequence[Row]) -> Figure:
    """Draw bias against variance, both after scaling.

    Estimators without a bias that was found, and those without variance, have rankings of their
    own: log axes have no place for 0.
    """
    shown = _drawable(rows)
    steady = [r for r in shown if r.measurement.variance < _NEGLIGIBLE]
    unbiased = [r for r in shown if r not in steady and r.measurement.bias_low < _NEGLIGIBLE]
    both = [r for r in shown if r not in steady and r not in unbiased]
    height = 1.2 + 0.19 * max(len(steady), len(unbiased), 14)
    figure = Figure(figsize=(13, height), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1.3, 1))
    _ranking(left, unbiased, "scaled_variance", "no bias found: scaled variance")
    for i, row in enumerate(both):
        m = row.measurement
        middle.plot(m.scaled_bias, m.scaled_variance, "o", color=COLOURS[i % len(COLOURS)])
    _label(middle, both)
    middle.margins(x=0.4, y=0.1)
    if both:
        set_log(middle, "x")
        set_log(middle, "y")
    middle.set_xlabel("scaled bias")
    middle.set_ylabel("scaled variance")
    middle.set_title("bias and variance", fontsize=10)
    middle.grid(alpha=0.3, which="both")
    _ranking(right, steady, "scaled_bias", "no variance: scaled bias")
    return figure


def _ranking(ax: Axes, rows: Sequence[Row], name: str, title: str) -> None:
    """Draw a dot a row, the smallest value on top."""
    ranked = sorted(rows, key=lambda row: getattr(row.measurement, name), reverse=True)
    values = [getattr(row.measurement, name) for row in ranked]
    ax.plot(values, range(len(ranked)), "o", color=COLOURS[0])
    ax.set_yticks(range(len(ranked)), [_name(row) for row in ranked], fontsize=8)
    if any(value > _NEGLIGIBLE for value in values):
        _set_symlog(ax)
        ax.set_xlim(0, 2 * max(values))
    ax.set_title(title, fontsize=10)
    ax.grid(alpha=0.3)


def _set_symlog(ax: Axes) -> None:
    ax.set_xscale("symlog", linthresh=0.01)
    ax.xaxis.set_major_formatter("{x:g}")  # its own would be in dollars, see `draw_measurements`


def _label(ax: Axes, rows: Sequence[Row]) -> None:
    """Write names beside points, from the lowest up, each at least a line above the last."""
    last = -math.inf
    for row in sorted(rows, key=lambda row: row.measurement.scaled_variance):
        x, y = row.measurement.scaled_bias, row.measurement.scaled_variance
        place = max(math.log10(y), last + 0.045)
        last = place
        ax.annotate(
            _name(row), (x, y), (x * 1.12, 10**place), fontsize=8, verticalalignment="center"
        )


def _name(row: Row) -> str:
    return row.label if row.reference == "logistic" else f"{row.label} (own noise)"


def bars(rows: Sequence[Row]) -> Figure:
    """Draw squared bias and variance after scaling, the smallest sum on top."""
    shown = _drawable(rows)
    pairs = [(r.measurement.scaled_bias**2, r.measurement.scaled_variance, r) for r in shown]
    pairs.sort(key=lambda pair: pair[0] + pair[1], reverse=True)
    figure = Figure(figsize=(7, 1.2 + 0.24 * len(shown)), layout="constrained")
    ax = figure.subplots()
    for i, (bias, variance, _) in enumerate(pairs):
        ax.barh(i + 0.2, bias, 0.4, color=COLOURS[1], label="bias²" if i == 0 else None)
        ax.barh(i - 0.2, variance, 0.4, color=COLOURS[0], label="variance" if i == 0 else None)
    ax.set_yticks(range(len(pairs)), [_name(row) for *_, row in pairs], fontsize=7)
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
            style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)]}
            style["linestyle"] = DASHES[i % len(DASHES)]
            points = sorted(points, key=lambda point: point[0])
            values = [getattr(row.measurement, name) for _, row in points]
            label = f"{estimator} ({reference})"
            ax.plot([x for x, _ in points], values, marker=".", label=label, **style)
        ax.set_xlabel(", ".join(dict.fromkeys(key for _, _, key in lines)))
        ax.set_title(f"relative {name}", fontsize=10)
        ax.grid(alpha=0.3)
    ax.legend(fontsize=7)
    return figure
