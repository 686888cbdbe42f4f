r"""Quantizers of one bit: their backward pass looks at the gap between input and bit.

References:
    [Gong2019] Gong, Liu, Jiang, Li, Hu, Lin, Yu, Yan (2019), "Differentiable Soft Quantization",
    arXiv:1908.05033.
    [Lee2021] Lee, Kim, Ham (2021), "Network Quantization with Element-wise Gradient Scaling",
    arXiv:2104.00903.
"""

from typing import Any

import torch
from torch import Tensor, nn

from stelab.arguments import NonNegative, Positive, checked
from stelab.estimators.backward import HardForward, hand_back, known, once, wide
from stelab.estimators.base import Estimator
from stelab.estimators.straight_through import IdentityGradient
from stelab.randomness import Source


class DSQ(Estimator):
    r"""Differentiable soft quantization: a tanh over one interval, its steepness learned.

    With the input clamped to the interval, :math:`c = \max(-\Delta/2, \min(\Delta/2, s))`, and
    :math:`\varphi(s) = \frac12 + \frac12\tanh(kc)/\tanh(k\Delta/2)`,

    Forward: :math:`b = 1[s > 0]`. Backward: :math:`g\,\varphi'(s)`, and for k, which the model's
    optimizer trains, :math:`\sum g\,\partial\varphi/\partial k`.

    Mass 1. Biased. One evaluation of the loss a step, no randomness. [Gong2019]

    Args:
        interval: :math:`\Delta`, above 0.
        steepness: Where k starts, above 0. Its logarithm is the parameter.
    """

    @checked
    def __init__(self, *, interval: Positive, steepness: Positive):
        super().__init__()
        self.interval = interval
        self.log_steepness = nn.Parameter(torch.tensor(float(steepness)).log())

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `Estimator.forward`; `generator` is ignored."""
        soft = self.probability(known(s))
        return IdentityGradient.apply(soft, self.take(s, bits, generator)).to(s.dtype)

    def probability(self, s: Tensor) -> Tensor:
        r"""Return :math:`\varphi(s)`."""
        k, half = wide(self.log_steepness).exp().to(s.dtype), self.interval / 2
        return (1 + torch.tanh(k * s.clamp(-half, half)) / torch.tanh(k * half)) / 2


class _ScaledGradient(HardForward):
    """Backward: the gradient, longer where it widens the gap."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        s, _, gap = inputs
        ctx.save_for_backward(s, gap)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        s, gap = ctx.saved_tensors
        return once(hand_back(g * (1 + g.sign() * gap), s), s), None, None


class EWGS(Estimator):
    r"""Element-wise gradient scaling.

    With the latent value :math:`x = \max(0, \min(1, s + \tfrac12))`, which rounds to the bit,

    Forward: :math:`b = 1[s > 0]`.
    Backward: :math:`g\,(1 + \delta\,\mathrm{sign}(g)\,(x - b))`.

    At :math:`\delta = 0` bitwise `Identity`. (The paper clamps its input before: put
    `ClippedInput` of bound 1/2 beside it to see what that does.) Biased. One evaluation of the
    loss a step, no randomness. [Lee2021]

    Args:
        scaling: :math:`\delta`, at least 0.
    """

    @checked
    def __init__(self, *, scaling: NonNegative):
        super().__init__()
        self.scaling = scaling

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `Estimator.forward`; `generator` is ignored."""
        bits = self.take(s, bits, generator)
        gap = (wide(s.detach()) + 0.5).clamp(0, 1) - bits
        return _ScaledGradient.apply(s, bits, self.scaling * gap)
