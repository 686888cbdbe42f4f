"""The portrait of an estimator: what goes forward, and the law of what comes back."""

from __future__ import annotations

import copy

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from atlas.toy import (
    gradient_law,
    is_deterministic,
    mean_forward,
    surrogate_derivative,
)
from stelab.annealing import Scheduled, advance
from stelab.engine.report.drawing import COLOURS, DASHES
from stelab.estimators import Estimator

DPI = 80
# An even number: 0, where the step jumps, lies between two points.
GRID = torch.linspace(-3, 3, 120, dtype=torch.float64)


def draw_estimator(estimator: Estimator) -> Figure:
    """Draw a row of two panels; of an estimator with a schedule one row for each of its ends."""
    rows = {"": estimator}
    if isinstance(estimator, Scheduled):
        rows = {", at the start": _at(estimator, 0.0), ", at the end": _at(estimator, 1.0)}
    figure = Figure(figsize=(6, 2 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 2, squeeze=False, sharex=True)
    for (left, right), (when, stage) in zip(axes, rows.items(), strict=True):
        _draw_forward(left, stage)
        _draw_gradient(right, stage)
        left.set_title(f"forward{when}", fontsize=8)
        right.set_title(f"gradient{when}", fontsize=8)
    for ax in axes.flat:
        ax.tick_params(labelsize=7)
        ax.grid(alpha=0.3)
    for ax in axes[-1]:
        ax.set_xlabel("s", fontsize=8)
    handles, labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=7)
    return figure


def _at(estimator: Estimator, progress: float) -> Estimator:
    stage = copy.deepcopy(estimator)
    advance(stage, progress)
    return stage


def _draw_forward(ax: Axes, estimator: Estimator) -> None:
    label = "y" if estimator.relaxed else "b"
    if not is_deterministic(estimator):
        label = "E[y]" if estimator.relaxed else "P(b = 1)"
    ax.plot(GRID, mean_forward(estimator, GRID), color=COLOURS[0])
    ax.set_ylabel(label, fontsize=8)
    ax.set_ylim(-0.08, 1.08)


def _draw_gradient(ax: Axes, estimator: Estimator) -> None:
    found = gradient_law(estimator, GRID)
    mean, sd = found.mean[:, 0], found.variances[:, 0].sqrt()
    lines = {"exact": found.exact[:, 0], "mean": mean}
    if is_deterministic(estimator):
        lines["g = 1"] = surrogate_derivative(estimator, GRID)
    for (label, values), colour, dashes in zip(lines.items(), COLOURS, DASHES, strict=False):
        ax.plot(GRID, values, color=colour, linestyle=dashes, label=label)
    if not is_deterministic(estimator):
        ax.fill_between(
            GRID, mean - sd, mean + sd, color=COLOURS[1], alpha=0.2, linewidth=0, label="± sd"
        )
