"""Measure a finished run's checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from omegaconf import DictConfig

from stelab.engine.config import build
from stelab.engine.errors import InputError
from stelab.engine.studies import Run
from stelab.engine.studies.record import RunFolder
from stelab.engine.terminal import visible
from stelab.engine.trust import rebuild
from stelab.lab.data import ImageDataModule
from stelab.lab.data.batches import Batches
from stelab.lab.training.figures import draw_run
from stelab.lab.training.restore import restore


def evaluate(
    run: Run,
    *,
    checkpoint: str,
    split: str,
    data: DictConfig | None = None,
    trust: Sequence[str] = (),
) -> dict[str, float]:
    """Compute ``<split>/loss`` and ``<split>/mse`` in eval mode, and draw the run's figures.

    The split is of the run's dataset, or of the one that `data` configures.

    Raises:
        InputError: The checkpoint or the dataset cannot be read, or a metric is NaN or infinite.
    """
    module = restore(run, checkpoint=checkpoint, trust=trust, loss=True)
    images_of = load_data(run, data, split=split, trust=trust)
    images = images_of.images(split)
    loss, mse = 0.0, 0.0
    with torch.no_grad():
        for batch in Batches(images, batch_size=images_of.batch_size, seed=None):
            reconstruction = module(batch)
            weight = len(batch) / len(images)
            loss += weight * module.losses(reconstruction, batch).mean().item()
            mse += weight * module.squared_error(reconstruction, batch).mean().item()
    metrics = {f"{split}/loss": loss, f"{split}/mse": mse}
    for name, value in metrics.items():
        if not math.isfinite(value):  # finite weights may still overflow
            raise InputError(f"{name} is {value} with {checkpoint}.ckpt of {run.folder}")
    draw_run(RunFolder(run.folder), module, images_of, split=split)
    return metrics


def load_data(
    run: Run, data: DictConfig | None = None, *, split: str = "test", trust: Sequence[str] = ()
) -> ImageDataModule:
    """Build the dataset of `data`, or of a run where that is None, and load a split.

    A run's own is read where the run says that it is, but never downloaded to there.

    Raises:
        InputError: The run names what may not be built, or its dataset cannot be read.
    """
    if data is not None:
        module: ImageDataModule = build(data)
        module.prepare_data()
        return module
    module = rebuild(run, "data", trust=trust)
    module.may_download = False
    try:
        module.prepare_data()
        module.images(split)
    except InputError:
        raise
    except Exception as error:  # a run's arguments may be anything
        reason = f"{type(error).__name__}: {' '.join(visible(str(error)).split())[:300]}"
        raise InputError(f"{run.folder}: data cannot be loaded: {reason}") from error
    return module
