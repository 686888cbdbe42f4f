"""Test images, and what is left of them by each group's network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from omegaconf import DictConfig

from stelab.comparison import Comparison
from stelab.comparison.statistics import Array
from stelab.errors import InputError
from stelab.report.drawing import CHARACTER, Drawn, Picture, panels, style
from stelab.report.lines import Line, shown_lines, tell_not_shown, tell_same
from stelab.studies.record import Run, read_run

IMAGES = 8
_CELL = 0.42  # inches of an image
_GAP = 2  # pixels between columns
_FOLD = 30


def draw_reconstructions(
    comparison: Comparison, folder: Path, *, data: DictConfig | None = None
) -> Drawn:
    """Draw the same test images through each group's network.

    Args:
        comparison: The groups; of each, the first replicate's last checkpoint is read.
        folder: Where the figure is written, as SVG and PNG.
        data: Configuration of the dataset, where it is not where it was when the runs were made.

    Raises:
        InputError: Groups have different data, or a checkpoint or the dataset cannot be read.
    """
    with style():
        return picture_reconstructions(comparison, data).save(folder)


def picture_reconstructions(comparison: Comparison, data: DictConfig | None = None) -> Picture:
    """Return the figure of `draw_reconstructions`, a column a group."""
    lines = shown_lines(comparison)
    firsts = pd.DataFrame([_first(comparison, line) for line in lines])
    sets = sorted(firsts["data"].unique())
    if len(sets) > 1:
        raise InputError(
            f"No reconstructions: groups of different data ({', '.join(sets)}) share no image."
        )
    try:
        columns = _columns([read_run(folder) for folder in firsts["folder"]], data)
    except InputError as error:
        raise InputError(f"No reconstructions: {str(error).rstrip('.')}.") from error
    names = ["original", *(line.name(_FOLD) for line in lines)]
    title = f"{len(columns[0])} test images and their reconstructions"
    repeats = (",".join(str(v) for v in firsts[key].unique()) for key in comparison.replicates)
    runs = " ".join(f"{key}={v}" for key, v in zip(comparison.replicates, repeats, strict=True))
    text = [
        f"The originals are in the first column, then a column a group, best first ({runs}).",
        tell_same(comparison, lines, "column"),
        tell_not_shown(comparison),
    ]
    drawn = Drawn("reconstructions", title, " ".join(part for part in text if part))
    return Picture(_mosaic(columns, names), drawn)


def _first(comparison: Comparison, line: Line) -> pd.Series:
    """Return the row of the first replicate of a line's first group."""
    group = next(g for g in comparison.groups if comparison.line_of[g.label] == line.label)
    return group.first(comparison.replicates)


def _columns(runs: Sequence[Run], data: DictConfig | None) -> list[Array]:
    """Return the originals and each run's reconstructions, each ``(n, 28, 28)`` in [-1, 1]."""
    from stelab.report.run_figures import reconstruct
    from stelab.training.evaluate import load_data
    from stelab.training.restore import restore

    restored = [restore(run, checkpoint="last") for run in runs]  # before data is downloaded
    images = load_data(runs[0].config, data).images("test")[:IMAGES]
    columns = (images, *(reconstruct(module, images) for module in restored))
    return [column.squeeze(1).numpy() for column in columns]


def _mosaic(columns: Sequence[Array], names: Sequence[str]) -> Figure:
    """Draw all images as one, white between the columns."""
    rows = [
        np.pad(column.reshape(-1, column.shape[-1]), ((0, 0), (0, _GAP)), constant_values=1)
        for column in columns
    ]
    tiles = np.concatenate(rows, axis=1)
    longest = max(len(part) for name in names for part in name.split("\n"))
    size = (_CELL * len(columns), _CELL * len(columns[0]))
    top = 0.1 + CHARACTER * longest
    figure, (ax,) = panels(1, size=size, left=0.1, bottom=0.05, top=top)
    ax.imshow(tiles, cmap="gray", vmin=-1, vmax=1, interpolation="none", aspect="auto")
    pitch = columns[0].shape[-1] + _GAP
    ax.xaxis.tick_top()
    middles = [(i + 0.5) * pitch - _GAP / 2 - 0.5 for i in range(len(names))]
    ax.set_xticks(middles, names, rotation=90, multialignment="left")
    ax.tick_params(length=0)
    ax.set_yticks([])
    ax.set_frame_on(False)
    ax.grid(False)
    return figure
