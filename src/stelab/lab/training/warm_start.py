"""First weights from another run's checkpoint."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from stelab.engine.errors import InputError
from stelab.lab.training.checkpoint_file import mismatch, not_finite, read_checkpoint
from stelab.lab.training.module import AutoencoderModule

_LAYER = "model.binarizer."


def take_weights(module: AutoencoderModule, path: Path) -> None:
    """Give `module` the weights and running statistics of a checkpoint.

    Those of encoder and decoder must fit. What the threshold has learned is taken where both have
    the same; estimators and schedules, which is what runs compare, start anew.

    Args:
        module: The module; on the meta device, the checkpoint is only compared with it.
        path: The checkpoint, which is read as data.

    Raises:
        InputError: It cannot be read, is of another network, or not finite.
    """
    own = module.state_dict()
    came: dict[str, Tensor] = read_checkpoint(path)["state_dict"]
    weights = {name: value for name, value in came.items() if _is_of_network(name)}
    if difference := mismatch(weights, {n: value for n, value in own.items() if _is_of_network(n)}):
        raise InputError(f"from_checkpoint: {path} does not fit this network: {difference}")
    weights |= {
        name: value
        for name, value in came.items()
        if name.startswith(f"{_LAYER}threshold.")
        and not name.endswith(".progress")
        and name in own
        and own[name].shape == value.shape
    }
    if name := not_finite(weights):
        raise InputError(f"from_checkpoint: {path}: {name} is not finite everywhere")
    if not any(value.is_meta for value in own.values()):
        module.load_state_dict(weights, strict=False)


def _is_of_network(name: str) -> bool:
    return name.startswith("model.") and not name.startswith(_LAYER)
