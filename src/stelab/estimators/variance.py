"""Parameters that lower the variance of an estimate, and nothing else.

They are kept from the model by ``requires_grad=False``: its loss, its optimizer and DDP pass them
by. Their own objective is differentiated with respect to stand-ins, see `Estimator.loss`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from stelab.estimators.backward import wide
from stelab.estimators.base import rows


def variance_parameter(value: float) -> nn.Parameter:
    """Make a 0-dimensional parameter that the model's loss does not train."""
    return nn.Parameter(torch.tensor(float(value)), requires_grad=False)


def stand_in(parameter: nn.Parameter) -> Tensor:
    """Return the parameter's value, float32 or wider, as a leaf to differentiate with respect to.

    Where gradients are off it is a constant.
    """
    return wide(parameter.detach()).clone().requires_grad_(torch.is_grad_enabled())


def leave_gradient(
    objective: Tensor, parameters: Sequence[nn.Parameter], stand_ins: Sequence[Tensor]
) -> None:
    """Put the gradient of `objective` in the parameters' ``.grad``, 0 where it ignores them."""
    gradients = torch.autograd.grad(objective, stand_ins, allow_unused=True, materialize_grads=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.to(parameter.dtype)


class VarianceNet(nn.Module):
    """A scalar function of a code, ``tanh`` with one hidden layer.

    Args:
        bits: Bits of a code.
        hidden: Width of the hidden layer.
    """

    def __init__(self, *, bits: int, hidden: int):
        super().__init__()
        self.bits, self.hidden = bits, hidden
        self.layers = nn.Sequential(nn.Linear(bits, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.requires_grad_(False)

    def shorten(self, bits: int) -> None:
        """Begin anew with a first layer for codes of so many bits."""
        self.bits = bits
        self.layers[0] = nn.Linear(bits, self.hidden).to(next(self.parameters()))
        self.requires_grad_(False)

    def stand_ins(self) -> dict[str, Tensor]:
        """Return stand-ins of all parameters by name."""
        return {name: stand_in(p) for name, p in self.layers.named_parameters()}

    def forward(self, code: Tensor, parameters: dict[str, Tensor] | None = None) -> Tensor:
        """Map ``(batch, *code_shape)`` to ``(batch,)``, with other parameters where given.

        Raises:
            ValueError: The code has not the bits that the network was made for.
        """
        code = rows(code)
        if code.shape[1] != self.bits:
            raise ValueError(
                f"this network was made for codes of {self.bits} bits, got {code.shape[1]}: set "
                "the estimator's bits to the length of the code"
            )
        named = dict(self.layers.named_parameters()) if parameters is None else parameters
        wide = {name: value.to(code.dtype) for name, value in named.items()}
        return functional_call(self.layers, wide, (code,)).squeeze(1)

    def leave(self, objective: Tensor, parameters: dict[str, Tensor]) -> None:
        """Put the gradient of `objective` in the parameters' ``.grad``."""
        leave_gradient(objective, [*self.layers.parameters()], [*parameters.values()])
