"""Test images, and their reconstructions by each group's network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from omegaconf import DictConfig

from stelab.engine.comparison import Comparison
from stelab.engine.errors import InputError
from stelab.engine.report.drawing import Drawn, Picture, fit, panels
from stelab.engine.report.group_styles import shown_styles, tell_not_shown, tell_same
from stelab.engine.studies.record import Run, read_run

if TYPE_CHECKING:  # torch is imported when it is needed
    from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")

IMAGES = 8
_CELL = 0.42  # inches of an image
_GAP = 2  # pixels between columns
_FOLD = 30


def picture_reconstructions(
    comparison: Comparison, data: DictConfig | None = None, *, trust: Sequence[str] = ()
) -> Picture:
    """Draw the same test images through each group's network, a column a group.

    Of each group, the first replicate's last checkpoint is read; the figure's `missing` says why
    groups are not in it. `data` configures the dataset where it has moved since the runs.
    """
    from stelab.lab.training.figures import drawable, pictures
    from stelab.lab.training.restore import image_format, restore

    groups = shown_styles(comparison)
    # Of the groups that share a column, the first.
    group_of = {comparison.line_of[group.label]: group for group in reversed(comparison.groups)}
    firsts = pd.DataFrame([group_of[g.label].first(comparison.replicates) for g in groups])
    sets = sorted(firsts["data"].dropna().unique())
    if len(sets) > 1:
        raise InputError(
            f"No reconstructions: groups of different data ({', '.join(sets)}) share no image."
        )
    refusals: dict[int, str] = {}
    runs = _attempt(read_run, dict(enumerate(firsts["folder"])), refusals)
    pixels = _pixels(runs.values(), data, trust, reasons=list(refusals.values()))

    titles: list[str] = []

    def reconstruction(run: Run) -> Tensor:
        form = image_format(run)  # groups of the same data may normalize them differently
        if form.shape != pixels.shape[1:]:
            raise InputError(f"its images have another shape, {form.shape}")
        module = restore(run, checkpoint="last", trust=trust)
        rows = pictures(module, {"images": form.normalize(pixels)})
        if "reconstruction" not in rows:
            raise InputError(f"{type(module.task).__name__} makes no images")
        titles.extend(name for name in rows if name != "reconstruction")
        return form.denormalize(rows["reconstruction"])

    reconstructed = _attempt(reconstruction, runs, refusals)
    if not reconstructed:
        raise InputError(f"No reconstructions: {next(iter(refusals.values()))}.")
    columns = [drawable(column) for column in (pixels, *reconstructed.values())]
    shown = [group for i, group in enumerate(groups) if i in reconstructed]
    first = next(iter(titles), "original")  # what the best group's task calls its images
    names = [first, *(group.name(_FOLD) for group in shown)]
    missing = tuple(
        f"No reconstructions of {' '.join(groups[i].name(_FOLD).split())}: {reason}."
        for i, reason in sorted(refusals.items())
    )
    title = f"{len(columns[0])} test images and their reconstructions"
    repeats = (",".join(str(v) for v in firsts[key].unique()) for key in comparison.replicates)
    same = " ".join(f"{key}={v}" for key, v in zip(comparison.replicates, repeats, strict=True))
    order = f"The images are in the first column, then a column a group, best first ({same})."
    sentences = (order, tell_same(comparison, shown, "column"), tell_not_shown(comparison))
    text = " ".join(filter(None, sentences))
    drawn = Drawn("reconstructions", title, text, missing=missing)
    return Picture(_mosaic(columns, names), drawn)


def _attempt(
    action: Callable[[Item], Result], items: Mapping[int, Item], refusals: dict[int, str]
) -> dict[int, Result]:
    """Apply an action to each item; note in `refusals` why it raised InputError, if it did."""
    results = {}
    for i, item in items.items():
        try:
            results[i] = action(item)
        except InputError as error:
            refusals[i] = str(error).rstrip(".")
    return results


def _pixels(
    runs: Iterable[Run], data: DictConfig | None, trust: Sequence[str], reasons: list[str]
) -> Tensor:
    """Return test images, of 8 bits, of the first run whose data can be had; or say why not."""
    from stelab.lab.training.restore import load_data

    for run in runs:
        try:
            loaded = load_data(run, data, trust=trust)
            return loaded.format.denormalize(loaded.images("test")[:IMAGES])
        except InputError as error:
            reasons.append(str(error).rstrip("."))
    raise InputError(f"No reconstructions: {reasons[0]}.")


def _mosaic(columns: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> Figure:
    """Draw all images as one, grey or RGB, white between the columns."""
    from stelab.lab.training.figures import show

    _, height, width, *colours = columns[0].shape
    stacked = [column.reshape(-1, width, *colours) for column in columns]
    gap = ((0, 0), (0, _GAP), *((0, 0) for _ in colours))
    tiles = np.hstack([np.pad(column, gap, constant_values=255) for column in stacked])
    figure, (ax,) = panels()
    show(ax, tiles, interpolation="none")
    pitch = width + _GAP
    ax.xaxis.tick_top()
    middles = [(i + 0.5) * pitch - _GAP / 2 - 0.5 for i in range(len(names))]
    ax.set_xticks(middles, names, rotation=90, multialignment="left")
    ax.tick_params(length=0)
    ax.set(yticks=[], frame_on=False)
    ax.grid(False)
    inches = _CELL * len(columns) * width / height
    fit(figure, width=(inches, inches), height=_CELL * len(columns[0]))
    return figure
