"""A trained network from a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from stelab.errors import InputError, brief
from stelab.studies.record import Run
from stelab.training.checkpoint_file import mismatch, not_finite, read_checkpoint
from stelab.training.module import AutoencoderModule
from stelab.training.run import build_module


def restore(run: Run, *, checkpoint: str) -> AutoencoderModule:
    """Build the network of a finished run and load its weights, in eval mode, on the CPU.

    Args:
        run: The run.
        checkpoint: ``"last"`` or ``"best"``.

    Raises:
        InputError: The checkpoint is absent, damaged, of another network, or not finite.
    """
    path = run.folder / "checkpoints" / f"{checkpoint}.ckpt"
    if not path.exists() and _kept(run) == "none":
        raise InputError(f"{path} does not exist (checkpoint.keep=none)")
    content = read_checkpoint(path)
    module = build_module(OmegaConf.create(run.config))
    load_weights(module, content, path)
    return module.eval()


def load_weights(module: AutoencoderModule, content: dict[str, Any], path: Path) -> None:
    """Load what `read_checkpoint` returned.

    Raises:
        InputError: It is of another network, or holds weights that are NaN or infinite.
    """
    try:
        module.on_load_checkpoint(content)
        if difference := mismatch(content["state_dict"], module.state_dict()):
            raise ValueError(difference)
        module.load_state_dict(content["state_dict"])
    # A stranger's content, of any types: what a module raises on it has no one type either.
    except Exception as error:
        raise InputError(f"{path} is of another network: {brief(error)}") from error
    if name := not_finite(module.state_dict()):
        raise InputError(f"{path} is of no use: {name} is not finite everywhere")


def _kept(run: Run) -> object:
    checkpoint = run.config.get("checkpoint")
    return checkpoint.get("keep") if isinstance(checkpoint, dict) else None
