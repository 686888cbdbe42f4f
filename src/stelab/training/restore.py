"""A trained network from a run's folder."""

from __future__ import annotations

import torch
from omegaconf import OmegaConf

from stelab.errors import InputError
from stelab.studies.record import Run
from stelab.training.checkpoint_file import is_whole
from stelab.training.module import AutoencoderModule
from stelab.training.run import build_module


def restore(run: Run, *, checkpoint: str) -> AutoencoderModule:
    """Build the network of a finished run and load its weights, in eval mode, on the CPU.

    Args:
        run: The run.
        checkpoint: ``"last"`` or ``"best"``.

    Raises:
        InputError: The checkpoint is absent or damaged.
    """
    path = run.folder / "checkpoints" / f"{checkpoint}.ckpt"
    if path.exists() and not is_whole(path):
        raise InputError(f"{path} is damaged: its checksum is wrong")
    module = build_module(OmegaConf.create(run.config))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        module.on_load_checkpoint(content)
        module.load_state_dict(content["state_dict"])
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (RuntimeError, KeyError) as error:
        raise InputError(f"{path} is of another network: {error}") from error
    return module.eval()
