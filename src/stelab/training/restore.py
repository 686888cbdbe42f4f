"""A trained network from a run's folder."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import OmegaConf

from stelab.errors import InputError
from stelab.studies.record import Run, read_run
from stelab.training.module import AutoencoderModule
from stelab.training.run import build_module


def restore(folder: Path | str, *, checkpoint: str) -> tuple[Run, AutoencoderModule]:
    """Build the network of a finished run and load its weights, in eval mode, on the CPU.

    Args:
        folder: The run's folder.
        checkpoint: ``"last"`` or ``"best"``.

    Raises:
        InputError: The folder is not a finished run's, or the checkpoint is absent or damaged.
    """
    run = read_run(folder)
    if run.status != "finished":
        raise InputError(f"{run.folder} must be a finished run, but it is {run.status}")
    path = run.folder / "checkpoints" / f"{checkpoint}.ckpt"
    module = build_module(OmegaConf.create(run.config))
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(weights)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise InputError(f"{path} is damaged or of another network: {error}") from error
    return run, module.eval()
