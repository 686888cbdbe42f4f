"""Figures of one run, drawn with matplotlib's object interface: no global state, no display."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from torch import Tensor

from stelab.engine.errors import InputError, first_line
from stelab.engine.files import read_bounded, require_own
from stelab.engine.report.drawing import COLOURS, DASHES, fit, panels, set_log, write_figure
from stelab.engine.studies.headline import Better
from stelab.engine.studies.record import RunFolder

_CELL = 0.62  # inches of an image
_DPI = 120


def draw_run(folder: RunFolder, module: Any, data: Any, *, split: str = "test") -> None:
    """Draw ``figures/loss.png``, and what the task shows of a split's first images, if anything."""
    batch = next(iter(data.batches(split)))
    rows = pictures(module, {name: part[:12] for name, part in batch.items()})
    rows = {label: data.format.denormalize(row) for label, row in rows.items()}
    require_own(folder.figures)
    if rows:
        write_figure(image_rows(rows), folder.figures / "reconstructions.png", dpi=_DPI)
    curves = run_curves(folder.metrics, module.task.metric, better=module.task.better)
    write_figure(curves, folder.figures / "loss.png", dpi=_DPI)


@torch.no_grad()
def pictures(module: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return rows of images of a batch, see `Task.pictures`, on the CPU in float32."""
    module.eval()
    parameter = next(module.parameters())
    moved = {name: part.to(parameter.device) for name, part in batch.items()}
    moved["images"] = moved["images"].to(parameter.dtype)
    rows = module.task.pictures(module.model, moved)
    return {name: row.float().cpu() for name, row in rows.items()}


def image_rows(rows: dict[str, Tensor]) -> Figure:
    """Draw one labelled row of images per entry, pixels as `denormalize` returns them."""
    count, _, height, width = max((row.shape for row in rows.values()), key=lambda shape: shape[0])
    figure, axes = panels(len(rows))
    for ax, (label, pixels) in zip(axes, rows.items(), strict=True):
        show(ax, np.concatenate(list(drawable(pixels)), axis=1), interpolation="nearest")
        ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    inches = _CELL * count * width / height
    fit(figure, width=(inches, inches), height=_CELL)
    return figure


def drawable(pixels: Tensor) -> NDArray[np.uint8]:
    """Return pixels ``(n, channels, height, width)`` as pictures: grey ones without channels."""
    return pixels.permute(0, 2, 3, 1).squeeze(3).numpy()


def show(ax: Axes, picture: NDArray[np.uint8], *, interpolation: str) -> None:
    """Draw one picture, grey or RGB, over all of `ax`."""
    # Colour map and limits are of grey alone.
    ax.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation=interpolation, aspect="auto")


def run_curves(path: Path, metric: str, *, better: Better) -> Figure:
    """Draw a metric of both splits of a run's metrics.csv over epochs in one picture.

    What falls is shown on a logarithmic axis; what rises, such as an accuracy, has a highest value.
    """
    try:
        rows = [*csv.DictReader(read_bounded(path, limit=2**26).decode().splitlines())]
        names = [n for n in (f"train/{metric}", f"val/{metric}") if n in rows[0]]
        epochs = [float(row["epoch"]) + 1 for row in rows]
        points = {  # not every epoch need validate
            name: [(e, float(r[name])) for e, r in zip(epochs, rows, strict=True) if r[name]]
            for name in names
        }
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path} is not the table of a run's metrics: {first_line(error)}"
        ) from error
    figure = Figure(figsize=(4.8, 3.2), dpi=_DPI)
    ax = figure.subplots()
    names = [name for name in names if points[name]]
    for name, colour, dashes in zip(names, COLOURS, DASHES, strict=False):
        marker = "o" if len(points[name]) == 1 else None
        ax.plot(*zip(*points[name], strict=True), dashes, color=colour, marker=marker, label=name)
    ax.set_xlabel("epoch")
    if better == "lower":
        set_log(ax, "y")
    else:
        ax.set_ylabel(metric)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7)
    ConstrainedLayoutEngine().execute(figure)  # as the figure's own, it has all drawn twice
    return figure
