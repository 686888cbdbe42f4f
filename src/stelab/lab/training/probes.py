"""Gradients inside a step that is traced for many runs, where no tensor can have a hook.

Zeros are added where a gradient is looked at, and are differentiated by, as parameters are: their
gradient is the one there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stelab.lab.models import Network
from stelab.lab.tasks.base import binary_layers

Zeros = tuple[Tensor, ...]
"""Of a layer: at its pre-activations, and at its bits too, where the gradient comes there."""


@dataclass
class Passed:
    """What passed the binary layers of a network, by their numbers in `binary_layers`.

    Attributes:
        centred: The centred pre-activations, without history.
        bits: What the estimators gave; nothing of one that evaluates the loss several times.
        times: That any of them was passed.
    """

    centred: dict[int, Tensor] = field(default_factory=dict)
    bits: dict[int, Tensor] = field(default_factory=dict)
    times: int = 0

    def zeros(self, layers: int) -> list[Zeros]:
        """Return those to add; none unless each layer was passed once, and all in one way."""
        flow = {i: bits for i, bits in self.bits.items() if bits.requires_grad}
        if not len(self.centred) == self.times == layers or len(flow) not in (0, layers):
            return []
        places = ((s, *([flow[i]] if flow else [])) for i, s in sorted(self.centred.items()))
        return [tuple(map(torch.zeros_like, place)) for place in places]


@contextmanager
def passing(model: Network, zeros: Sequence[Zeros] = ()) -> Iterator[Passed]:
    """Note what passes the binary layers, and add `zeros` to it.

    Those of pre-activations are added to the encoder's output, where they are that, and else to
    what the estimator is given. What follows them may have other uses, such as a penalty.
    """
    passed = Passed()

    def at_threshold(i: int, layer: Any, inputs: tuple[Tensor], theta: Tensor) -> Tensor:
        passed.centred[i] = inputs[0].detach() - theta.detach()
        passed.times += 1
        inner = zeros and layer is not getattr(model.binarizer, "threshold", None)
        return theta - zeros[i][0] if inner else theta

    def at_bits(i: int, layer: object, inputs: object, bits: Tensor) -> Tensor:
        passed.bits[i] = bits
        return bits + zeros[i][1] if zeros and len(zeros[i]) > 1 else bits

    def at_encoder(layer: object, inputs: object, x: Tensor) -> Tensor:
        return x + zeros[0][0]

    hooks = []
    for i, layer in enumerate(binary_layers(model)):
        hooks.append(layer.threshold.register_forward_hook(partial(at_threshold, i)))
        hooks.append(layer.estimator.register_forward_hook(partial(at_bits, i)))
        if zeros and layer is model.binarizer:
            hooks.append(model.encoder.register_forward_hook(at_encoder))
    try:
        yield passed
    finally:
        for hook in hooks:
            hook.remove()
