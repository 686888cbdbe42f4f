"""One forward pass before the first job: do encoder, binary layer, decoder and loss fit?"""

from __future__ import annotations

import linecache
import traceback
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress

import torch
from torch import Tensor, nn

from stelab.engine.errors import InputError
from stelab.engine.terminal import one_line
from stelab.lab.training.module import AutoencoderModule


def require_fit(
    module: AutoencoderModule,
    images: Tensor,
    *,
    context: AbstractContextManager[object] | None = None,
) -> None:
    """Let a batch pass through the network and its loss, as in training.

    Args:
        module: On any device; on the meta device nothing is computed but shapes.
        images: A batch there, shape ``(batch, *image_shape)``.
        context: Such as autocast.

    Raises:
        InputError: Something fails, or makes a tensor of another shape than it must: says what.
    """
    model, shape = module.model, _shape(images)

    def attempt(step: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        try:
            return step(*tensors)
        except Exception as error:
            if _is_decision(error):
                raise _LeftToTraining from error
            what = f"{type(error).__name__}: {one_line(str(error))}"
            where = _layer(error, module)
            raise InputError(f"{where} fails on images of shape {shape}: {what}") from error

    # What the pass warns of, and compiles, is training's to warn of and to compile.
    eager = torch.compiler.set_stance("force_eager")
    silent, left = warnings.catch_warnings(), suppress(_LeftToTraining)
    with left, silent, torch.no_grad(), eager, context or nullcontext():
        warnings.simplefilter("ignore")
        bits = attempt(model.encode, images)
        if bits.shape[1:] != model.code_shape:
            raise InputError(
                f"model has code_shape {tuple(model.code_shape)}, but makes codes of shape "
                f"{_shape(bits)} of images of shape {shape}"
            )
        reconstruction = attempt(model.decode, bits)
        if reconstruction.shape != images.shape:
            raise InputError(
                f"model must make images of the shape it is given, {shape}, but makes "
                f"{_shape(reconstruction)}"
            )
        losses = attempt(module.losses, reconstruction, images)
        if losses.shape != images.shape[:1]:
            reducing = hasattr(module.reconstruction_loss, "reduction")
            raise InputError(
                f"loss must return one value an example, shape {shape[:1]}, or one a pixel, but "
                f"returns {_shape(losses)}{'; set loss.reduction=none' if reducing else ''}"
            )


class _LeftToTraining(Exception):
    """The pass ends for a reason that is not the shapes'."""


def _is_decision(error: Exception) -> bool:
    """Tell code that gives up by its own decision, as a job may, from what refuses its arguments.

    An operation that is given a wrong shape is no ``raise`` in Python, or one of a library's, or
    of a ValueError.
    """
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    if package in ("torch", "torchvision", "stelab") or isinstance(error, ValueError | TypeError):
        return False
    return "raise" in linecache.getline(frame.f_code.co_filename, line).split()


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _layer(error: Exception, module: AutoencoderModule) -> str:
    """Name the innermost layer whose code was running when an error was raised."""
    names = {id(layer): name for name, layer in module.named_modules()}
    running = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    layers = [
        names[id(each)] for each in running if isinstance(each, nn.Module) and id(each) in names
    ]
    return next((name for name in reversed(layers) if name), "model")
