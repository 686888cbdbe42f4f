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
    """Raise NonFiniteError where training went wrong, before the wrong numbers spread.

    The pre-activations `x` are checked as well as the loss: the step turns NaN into a 0 or a 1, so
    a loss can be finite while the encoder is not. `forward` repeats the forward pass of `model`, to
    find the layer.
    """
    if not (loss.isfinite() & x.isfinite().all()):
        raise NonFiniteError(f"step {step}: {_origin(model, forward, step)}")


def _origin(model: nn.Module, forward: Callable[[], object], step: int) -> str:
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_floating_point() and not value.isfinite().all():
            layer = name.rpartition(".")[0]
            return f"the weights of {layer} are not finite since the update of step {step - 1}"
    layers: list[str] = []

    def note(name: str, layer: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            layers.append(name)

    hooks = [
        layer.register_forward_hook(partial(note, name))
        for name, layer in model.named_modules()
        if not next(layer.children(), None)
    ]
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    where = f"the output of {layers[0]}" if layers else "the loss"
    return f"{where} is not finite, all weights are"
