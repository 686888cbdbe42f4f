"""Trained weights from checkpoints: a finished run's network, or another network's first ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from stelab.binarizer import Binarizer
from stelab.engine.errors import InputError, first_line
from stelab.engine.studies.record import Run, RunFolder
from stelab.engine.trust import rebuild, require_trusted
from stelab.estimators import Estimator
from stelab.lab.models import Autoencoder
from stelab.lab.training.checkpoint_file import mismatch, not_finite, read_checkpoint
from stelab.lab.training.module import AutoencoderModule

_LAYER = "model.binarizer."


def restore(
    run: Run, *, checkpoint: str, trust: Sequence[str] = (), loss: bool = False
) -> AutoencoderModule:
    """Build the network of a finished run and load its weights, in eval mode, on the CPU.

    It is data of whoever made the run: only what `stelab.engine.trust` lets pass is built, with the
    packages in `trust`, and nothing is allocated that the checkpoint does not hold. The loss,
    `AutoencoderModule.reconstruction_loss`, is built where it is asked for.

    Raises:
        InputError: The run names what may not be built, or the checkpoint is absent, damaged, of
            another network, or not finite.
    """
    require_trusted(run, ["model", *(["loss"] if loss else [])], trust)
    path = RunFolder(run.folder).checkpoints / f"{checkpoint}.ckpt"
    settings = run.config.get("checkpoint")
    if not path.exists() and isinstance(settings, dict) and settings.get("keep") == "none":
        raise InputError(f"{path} does not exist (checkpoint.keep=none)")
    content = read_checkpoint(path)
    try:
        # What lowers the estimator's variance is stored separately.
        state = {**content["state_dict"], **content.get("variance", {}).get("parameters", {})}
        if not loss:
            state = {k: v for k, v in state.items() if not k.startswith("reconstruction_loss.")}
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            _require_fit(_build(run, trust, loss=loss), state, size=path.stat().st_size)
        module = _build(run, trust, loss=loss)
        module.on_load_checkpoint(content)
        module.load_state_dict(state)
        _require_images(module.eval())
    except InputError:
        raise
    # A stranger's content, of any types: what a module raises on it has no one type either.
    except Exception as error:
        raise InputError(f"{path} is of another network: {first_line(error)}") from error
    if name := not_finite(module.state_dict()):
        raise InputError(f"{path} is of no use: {name} is not finite everywhere")
    return module


def _build(run: Run, trust: Sequence[str], *, loss: bool) -> AutoencoderModule:
    """Build the network and the loss, without optimizer, schedule and callbacks."""
    model: Autoencoder = rebuild(run, "model", trust=trust)
    layer = model.binarizer
    if not (isinstance(layer, Binarizer) and isinstance(layer.estimator, Estimator)):
        raise InputError(f"{run.folder}: model.binarizer must be a Binarizer with an Estimator")
    return AutoencoderModule(
        model=model,
        loss=rebuild(run, "loss", trust=trust) if loss else nn.Identity(),
        optimizer={},
        scheduler={},
        seed=0,
    )


def _require_fit(module: nn.Module, state: dict[str, Tensor], *, size: int) -> None:
    """Compare a module on the meta device with what was saved.

    A tensor may be saved with any shape, as one element that is expanded: so the file has to have
    at least as many bytes as the module has numbers.
    """
    if difference := mismatch(state, module.state_dict()):
        raise ValueError(difference)
    numbers = sum(t.numel() for t in (*module.parameters(), *module.buffers()))
    if numbers > size:
        raise ValueError(f"it is too small to hold {numbers} numbers")


@torch.no_grad()
def _require_images(module: AutoencoderModule) -> None:
    """Pass one image, to see that all parts fit each other."""
    image, model = torch.zeros(1, 1, 28, 28), module.model
    with torch.random.fork_rng(devices=[]):
        bits = model.encode(image)
        if bits.shape[1:] != model.code_shape or model.decode(bits).shape != image.shape:
            raise ValueError("it makes no 28x28 image of an image, or codes of another shape")


def take_weights(module: AutoencoderModule, path: Path) -> None:
    """Give `module` the weights and running statistics of a checkpoint, which is read as data.

    Those of encoder and decoder must fit. What the threshold has learned is taken where both have
    the same; estimators and schedules, which is what runs compare, start anew. On the meta device,
    the checkpoint is only compared with the module.

    Raises:
        InputError: It cannot be read, is of another network, or not finite.
    """
    own = module.state_dict()
    saved: dict[str, Tensor] = read_checkpoint(path)["state_dict"]
    weights = _of_network(saved)
    if difference := mismatch(weights, _of_network(own)):
        raise InputError(f"from_checkpoint: {path} does not fit this network: {difference}")
    for name, value in saved.items():
        is_learned = name.startswith(f"{_LAYER}threshold.") and not name.endswith(".progress")
        if is_learned and name in own and own[name].shape == value.shape:
            weights[name] = value
    if infinite := not_finite(weights):
        raise InputError(f"from_checkpoint: {path}: {infinite} is not finite everywhere")
    if not any(value.is_meta for value in own.values()):
        module.load_state_dict(weights, strict=False)


def _of_network(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of encoder and decoder."""
    return {
        name: value
        for name, value in state.items()
        if name.startswith("model.") and not name.startswith(_LAYER)
    }
