"""Figures of runs, drawn with matplotlib's object interface: no global state, no display."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import Tensor

from stelab.studies.record import Run


def draw_run(folder: Path, module: Any, data: Any, *, split: str = "test") -> None:
    """Draw ``figures/reconstructions.png`` and ``figures/loss.png`` of a run.

    Args:
        folder: The run's folder, with metrics.csv.
        module: The trained `stelab.training.AutoencoderModule`.
        data: The `stelab.data.ImageDataModule`.
        split: Where the shown images come from.
    """
    images = data.images(split)[:12].cpu()
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    rows = {"original": images, "reconstruction": reconstruct(module, images)}
    image_rows(rows).savefig(figures / "reconstructions.png", dpi=120)
    run_curves(folder / "metrics.csv").savefig(figures / "loss.png", dpi=120)


@torch.no_grad()
def reconstruct(module: Any, images: Tensor) -> Tensor:
    """Return the reconstructions of `images`, in eval mode, on the CPU in float32."""
    module.eval()
    parameter = next(module.parameters())
    reconstruction: Tensor = module(images.to(parameter.device, parameter.dtype))
    return reconstruction.float().cpu()


def image_rows(rows: dict[str, Tensor]) -> Figure:
    """Draw one labelled row of images per entry, each ``(n, 1, 28, 28)`` in [-1, 1]."""
    columns = max(len(images) for images in rows.values())
    margin = 0.3 + 0.08 * max(len(label) for label in rows)  # inches
    width, height = margin + 0.62 * columns, 0.66 * len(rows)
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    figure.subplots_adjust(left=margin / width, right=0.99, bottom=0.01, top=0.99, hspace=0.05)
    for ax, (label, images) in zip(axes, rows.items(), strict=True):
        strip = torch.cat(list(images.squeeze(1)), dim=1)
        ax.imshow(strip.numpy(), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        ax.set_xticks([], [])
        ax.set_yticks([], [])
        for spine in ax.spines.values():
            spine.set_visible(False)
    return figure


# Okabe and Ito's colours, told apart by colour-blind readers, with dashes for print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")


def run_curves(path: Path, *, metric: str = "mse") -> Figure:
    """Draw a run's ``train/<metric>`` and ``val/<metric>`` over epochs in one picture."""
    table = read_curves(path)
    figure = Figure(figsize=(4.8, 3.2))
    ax = figure.subplots()
    figure.subplots_adjust(left=0.13, right=0.97, bottom=0.15, top=0.96)
    for i, name in enumerate((f"train/{metric}", f"val/{metric}")):
        if name in table:
            _plot(ax, table[name], label=name, style=i)
    _over_epochs(ax)
    ax.legend(fontsize=7)
    return figure


def loss_curves(curves: dict[str, Path], *, metric: str = "mse") -> Figure:
    """Draw ``train/<metric>`` and ``val/<metric>`` over epochs, a line for each metrics.csv."""
    read = {label: read_curves(path) for label, path in curves.items()}
    splits = [s for s in ("train", "val") if any(f"{s}/{metric}" in t for t in read.values())]
    crowded = len(read) > 8  # a legend inside the axes would hide the curves
    legend = 2.6 if crowded else 0.0  # inches, as all of these
    width, height = 4.6 * len(splits) + legend, max(3.2, 0.6 + 0.16 * len(read) * crowded)
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(1, len(splits), squeeze=False, sharey=True)[0]
    # Margins by hand: a layout engine takes as long as all the rest of the drawing.
    figure.subplots_adjust(
        left=0.7 / width,
        right=1 - (legend + 0.1) / width,
        bottom=0.5 / height,
        top=1 - 0.3 / height,
        wspace=0.06,
    )
    for ax, split in zip(axes, splits, strict=True):
        for i, (label, table) in enumerate(read.items()):
            points = table.get(f"{split}/{metric}", [])
            _plot(ax, points, label=label, style=i)
        ax.set_title(f"{split}/{metric}", fontsize=10)
        _over_epochs(ax)
    if crowded:
        handles, names = axes[-1].get_legend_handles_labels()
        figure.legend(handles, names, loc="upper right", fontsize=7)
    else:
        axes[-1].legend(fontsize=7)
    return figure


def _plot(ax: Any, points: Sequence[tuple[int, float]], *, label: str, style: int) -> None:
    ax.plot(
        [epoch + 1 for epoch, _ in points],
        [value for _, value in points],
        color=COLOURS[style % len(COLOURS)],
        linestyle=DASHES[style % len(DASHES)],
        marker="o" if len(points) == 1 else None,
        label=label,
    )


def _over_epochs(ax: Any) -> None:
    ax.set_xlabel("epoch")
    ax.set_yscale("log")
    # 0.2 instead of 2×10⁻¹: read faster, and drawn faster.
    ax.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}")
    ax.grid(alpha=0.3, which="both")


def read_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Read metrics.csv: for each metric its (epoch, value) pairs."""
    curves: dict[str, list[tuple[int, float]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            epoch = int(row.pop("epoch"))
            for name, value in row.items():
                if value:
                    curves.setdefault(name, []).append((epoch, float(value)))
    return curves


MOST = 40
"""Runs in one picture: more could not be told apart, nor held by a picture of 65,535 rows."""


def draw_study(study: Path, runs: Sequence[Run]) -> None:
    """Draw ``loss.png`` and ``reconstructions.png`` of a study: a line and a row for each run.

    Of more than `MOST` runs, those that come first.
    """
    runs = runs[:MOST]
    from stelab.training.evaluate import load_data
    from stelab.training.restore import restore

    names = labels(runs)
    curves = {name: run.folder / "metrics.csv" for name, run in zip(names, runs, strict=True)}
    loss_curves(curves).savefig(study / "loss.png", dpi=120)
    images = load_data(runs[0].config, None).images("test")[:12]
    rows = {"original": images}
    for name, run in zip(names, runs, strict=True):
        module = restore(run, checkpoint="last")
        rows[name] = reconstruct(module, images)
    image_rows(rows).savefig(study / "reconstructions.png", dpi=120)


def labels(runs: Sequence[Run]) -> list[str]:
    """Name runs by their ids, without the hash and without a seed that all share."""
    ids = [run.name.rpartition("-")[0] for run in runs]
    if len({run.config["seed"] for run in runs}) == 1:
        ids = [name.rpartition("-s")[0] for name in ids]
    return ids if len(set(ids)) == len(ids) else [run.name for run in runs]
