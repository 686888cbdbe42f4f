"""Measure a finished run's checkpoint."""

from __future__ import annotations

import math
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from stelab.config import build
from stelab.data import ImageDataModule
from stelab.data.batches import Batches
from stelab.errors import InputError
from stelab.report.run_figures import draw_run
from stelab.studies import Run
from stelab.training.restore import restore


def evaluate(
    run: Run, *, checkpoint: str, split: str, data: DictConfig | None = None
) -> dict[str, float]:
    """Compute ``<split>/loss`` and ``<split>/mse`` in eval mode, and draw the run's figures.

    Args:
        run: A finished run.
        checkpoint: ``"last"`` or ``"best"``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        data: Configuration of another dataset than the run's.

    Raises:
        InputError: The checkpoint or the dataset cannot be read, or a metric is NaN or infinite.
    """
    module = restore(run, checkpoint=checkpoint)
    images_of = load_data(run.config, data)
    images = images_of.images(split)
    loss, mse = 0.0, 0.0
    with torch.no_grad():
        for batch in Batches(images, batch_size=images_of.batch_size, seed=None):
            reconstruction = module(batch)
            weight = len(batch) / len(images)
            loss += weight * module.reconstruction_loss(reconstruction, batch).mean().item()
            mse += weight * module.squared_error(reconstruction, batch).mean().item()
    metrics = {f"{split}/loss": loss, f"{split}/mse": mse}
    for name, value in metrics.items():
        if not math.isfinite(value):  # finite weights may still overflow
            raise InputError(f"{name} is {value} with {checkpoint}.ckpt of {run.folder}")
    draw_run(run.folder, module, images_of, split=split)
    return metrics


def load_data(config: dict[str, Any], data: DictConfig | None) -> ImageDataModule:
    """Build and prepare the data module of `data`, or of a run's `config` where that is None."""
    module: ImageDataModule = build(data or OmegaConf.create(config["data"]))
    module.prepare_data()
    return module
