"""A trained network from a run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stelab.binarizer import Binarizer
from stelab.engine.errors import InputError, first_line
from stelab.engine.studies.record import Run
from stelab.engine.studies.run_folder import RunFolder
from stelab.engine.trust import rebuild, require_trusted
from stelab.estimators import Estimator
from stelab.lab.models import Autoencoder
from stelab.lab.training.checkpoint_file import mismatch, not_finite, read_checkpoint
from stelab.lab.training.module import AutoencoderModule


def restore(
    run: Run, *, checkpoint: str, trust: Sequence[str] = (), loss: bool = False
) -> AutoencoderModule:
    """Build the network of a finished run and load its weights, in eval mode, on the CPU.

    It is data of whoever made the run: only what `stelab.engine.trust` lets pass is built, and
    nothing is allocated that the checkpoint does not hold.

    Args:
        run: The run.
        checkpoint: ``"last"`` or ``"best"``.
        trust: Packages whose components are built, besides those of stelab and torch.
        loss: Whether to build the loss too, `AutoencoderModule.reconstruction_loss`.

    Raises:
        InputError: The run names what may not be built, or the checkpoint is absent, damaged, of
            another network, or not finite.
    """
    require_trusted(run, ["model", *(["loss"] if loss else [])], trust)
    path = RunFolder(run.folder).checkpoints / f"{checkpoint}.ckpt"
    if not path.exists() and _kept(run) == "none":
        raise InputError(f"{path} does not exist (checkpoint.keep=none)")
    content = read_checkpoint(path)
    try:
        state = _state(content, loss=loss)
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


def _kept(run: Run) -> object:
    checkpoint = run.config.get("checkpoint")
    return checkpoint.get("keep") if isinstance(checkpoint, dict) else None


def _build(run: Run, trust: Sequence[str], *, loss: bool) -> AutoencoderModule:
    """Build the network and the loss; leave out optimizer, schedule and callbacks."""
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


def _state(content: dict[str, Any], *, loss: bool) -> dict[str, Tensor]:
    """Return the tensors of the network, including those its estimator stores separately."""
    apart = content.get("variance", {}).get("parameters", {})
    state = {**content["state_dict"], **apart}
    return {k: v for k, v in state.items() if loss or not k.startswith("reconstruction_loss.")}


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
    """Let one image pass, to see that all parts fit each other."""
    image, model = torch.zeros(1, 1, 28, 28), module.model
    with torch.random.fork_rng(devices=[]):
        bits = model.encode(image)
        if bits.shape[1:] != model.code_shape or model.decode(bits).shape != image.shape:
            raise ValueError("it makes no 28x28 image of an image, or codes of another shape")
