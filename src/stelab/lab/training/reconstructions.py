"""Test images, and what is left of them by each group's network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from omegaconf import DictConfig

from stelab.engine.comparison import Comparison
from stelab.engine.comparison.statistics import Array
from stelab.engine.errors import InputError
from stelab.engine.report.drawing import Drawn, Picture, fit, panels, style
from stelab.engine.report.group_styles import GroupStyle, shown_styles, tell_not_shown, tell_same
from stelab.engine.studies.record import Run, read_run

if TYPE_CHECKING:  # torch is imported when it is needed
    from torch import Tensor

IMAGES = 8
_CELL = 0.42  # inches of an image
_GAP = 2  # pixels between columns
_FOLD = 30


def draw_reconstructions(
    comparison: Comparison,
    folder: Path,
    *,
    data: DictConfig | None = None,
    trust: Sequence[str] = (),
) -> Drawn:
    """Draw the same test images through each group's network, as far as it can be had.

    Args:
        comparison: The groups; of each, the first replicate's last checkpoint is read.
        folder: Where the figure is written, as SVG and PNG.
        data: Configuration of the dataset, where it is not where it was when the runs were made.
        trust: Packages whose components are built, besides those of stelab and torch.

    Returns:
        The figure; its `missing` says why groups are not in it.

    Raises:
        InputError: Groups have different data, or no network or dataset can be had.
    """
    with style():
        return picture_reconstructions(comparison, data, trust=trust).save(folder)


def picture_reconstructions(
    comparison: Comparison, data: DictConfig | None = None, *, trust: Sequence[str] = ()
) -> Picture:
    """Return the figure of `draw_reconstructions`, a column a group."""
    lines = shown_styles(comparison)
    firsts = pd.DataFrame([_first(comparison, line) for line in lines])
    sets = sorted(firsts["data"].unique())
    if len(sets) > 1:
        raise InputError(
            f"No reconstructions: groups of different data ({', '.join(sets)}) share no image."
        )
    runs, refusals = _read(firsts["folder"])
    images, why = _images(list(runs.values()), data, trust)
    if images is None:
        raise InputError(f"No reconstructions: {[*refusals.values(), *why][0]}.")
    reconstructed, refused = _reconstruct(runs, images, trust)
    refusals |= refused
    if not reconstructed:
        raise InputError(f"No reconstructions: {next(iter(refusals.values()))}.")
    columns = [column.squeeze(1).numpy() for column in (images, *reconstructed.values())]
    shown = [line for i, line in enumerate(lines) if i in reconstructed]
    names = ["original", *(line.name(_FOLD) for line in shown)]
    missing = tuple(
        f"No reconstructions of {' '.join(lines[i].name(_FOLD).split())}: {reason}."
        for i, reason in sorted(refusals.items())
    )
    title = f"{len(columns[0])} test images and their reconstructions"
    repeats = (",".join(str(v) for v in firsts[key].unique()) for key in comparison.replicates)
    same = " ".join(f"{key}={v}" for key, v in zip(comparison.replicates, repeats, strict=True))
    text = [
        f"The originals are in the first column, then a column a group, best first ({same}).",
        tell_same(comparison, shown, "column"),
        tell_not_shown(comparison),
    ]
    said = " ".join(part for part in text if part)
    drawn = Drawn("reconstructions", title, said, missing=missing)
    return Picture(_mosaic(columns, names), drawn)


def _first(comparison: Comparison, line: GroupStyle) -> pd.Series:
    """Return the row of the first replicate of a line's first group."""
    group = next(g for g in comparison.groups if comparison.line_of[g.label] == line.label)
    return group.first(comparison.replicates)


def _read(folders: Sequence[str]) -> tuple[dict[int, Run], dict[int, str]]:
    """Return runs by their places, and why others cannot be read."""
    runs, refusals = {}, {}
    for i, folder in enumerate(folders):
        try:
            runs[i] = read_run(folder)
        except InputError as error:
            refusals[i] = str(error).rstrip(".")
    return runs, refusals


def _images(
    runs: Sequence[Run], data: DictConfig | None, trust: Sequence[str]
) -> tuple[Tensor | None, list[str]]:
    """Return test images of the first run whose data can be had, and why others' cannot."""
    from stelab.lab.training.evaluate import load_data

    why: list[str] = []
    for run in runs:
        try:
            return load_data(run, data, trust=trust).images("test")[:IMAGES], why
        except InputError as error:
            why.append(str(error).rstrip("."))
    return None, why


def _reconstruct(
    runs: dict[int, Run], images: Tensor, trust: Sequence[str]
) -> tuple[dict[int, Tensor], dict[int, str]]:
    """Return the reconstructions by the runs' places, and why others have no network.

    One network at a time is in memory.
    """
    from stelab.lab.training.figures import reconstruct
    from stelab.lab.training.restore import restore

    reconstructed, refusals = {}, {}
    for i, run in runs.items():
        try:
            module = restore(run, checkpoint="last", trust=trust)
            reconstructed[i] = reconstruct(module, images)
        except InputError as error:
            refusals[i] = str(error).rstrip(".")
    return reconstructed, refusals


def _mosaic(columns: Sequence[Array], names: Sequence[str]) -> Figure:
    """Draw all images as one, white between the columns."""
    rows = [
        np.pad(column.reshape(-1, column.shape[-1]), ((0, 0), (0, _GAP)), constant_values=1)
        for column in columns
    ]
    tiles = np.concatenate(rows, axis=1)
    width, height = _CELL * len(columns), _CELL * len(columns[0])
    figure, (ax,) = panels()
    ax.imshow(tiles, cmap="gray", vmin=-1, vmax=1, interpolation="none", aspect="auto")
    pitch = columns[0].shape[-1] + _GAP
    ax.xaxis.tick_top()
    middles = [(i + 0.5) * pitch - _GAP / 2 - 0.5 for i in range(len(names))]
    ax.set_xticks(middles, names, rotation=90, multialignment="left")
    ax.tick_params(length=0)
    ax.set_yticks([])
    ax.set_frame_on(False)
    ax.grid(False)
    fit(figure, width=(width, width), height=height)
    return figure
