"""Where the first value that is not a finite number came from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from stelab.engine.errors import RunError


class NonFiniteError(RunError):
    """A loss or a pre-activation is NaN or infinite; the message names the step and the layer."""


def require_finite(
    loss: Tensor, x: Tensor, *, step: int, model: nn.Module, forward: Callable[[], object]
) -> None:
    """Raise where training went wrong, before the wrong numbers spread.

    The pre-activations are looked at as well as the loss: the step turns NaN into a 0 or a 1, so
    a loss can be finite while the encoder is not.

    Args:
        loss: The training loss, 0-dimensional.
        x: Pre-activations.
        step: Optimizer steps taken.
        model: Whose layers to look at.
        forward: Repeats the forward pass.

    Raises:
        NonFiniteError: Names the step and the first layer.
    """
    if not (loss.isfinite() & x.isfinite().all()):
        raise NonFiniteError(f"step {step}: {_first(model, forward, step)}")


def _first(model: nn.Module, forward: Callable[[], object], step: int) -> str:
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_floating_point() and not value.isfinite().all():
            layer = name.rpartition(".")[0]
            return f"the weights of {layer} are not finite since the update of step {step - 1}"
    found: list[str] = []
    hooks = [
        layer.register_forward_hook(partial(_look, found, name))
        for name, layer in model.named_modules()
        if not next(layer.children(), None)
    ]
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    where = f"the output of {found[0]} is not finite" if found else "the loss is not finite"
    return f"{where}, all weights are"


def _look(found: list[str], name: str, layer: nn.Module, inputs: object, output: object) -> None:
    if isinstance(output, Tensor) and not output.isfinite().all():
        found.append(name)
