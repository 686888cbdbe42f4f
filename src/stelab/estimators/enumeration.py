r"""Estimators that try the values of bits one by one: all codes, every bit, or one bit.

With :math:`\Delta_i f(b) = f(b, b_i{=}1) - f(b, b_i{=}0)`, the gradient with respect to
:math:`s_i` is :math:`p_i(1-p_i)\,\mathbb{E}[\Delta_i f(b)]`.

References:
    [Williams1992] Williams (1992), "Simple Statistical Gradient-Following Algorithms for
    Connectionist Reinforcement Learning".
    [Titsias2015] Titsias, Lázaro-Gredilla (2015), "Local Expectation Gradients for Black Box
    Variational Inference", arXiv:1503.01494.
    [Kunes2022] Kunes, Yin, Land, Haviv, Pe'er, Tavaré (2022), "Gradient Estimation for Binary
    Latent Variables via Gradient Variance Clipping", arXiv:2208.06124.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from stelab.arguments import Count, checked
from stelab.estimators.base import PerExampleLoss
from stelab.estimators.multi_evaluation import MultiEvaluation, column
from stelab.randomness import Source, uniform

MOST_BITS = 16


def all_codes(bits: int, *, like: Tensor) -> Tensor:
    """Return the 2**bits codes, shape ``(2**bits, bits)``, most significant bit first."""
    shifts = torch.arange(bits - 1, -1, -1, device=like.device)
    numbers = torch.arange(2**bits, device=like.device)
    return ((numbers[:, None] >> shifts) & 1).to(like.dtype)


def log_probability(codes: Tensor, s: Tensor) -> Tensor:
    """Compute log q(b) under p = sigmoid(s), summed over the last dimension."""
    return torch.where(codes > 0, logsigmoid(s), logsigmoid(-s)).sum(-1)


class Exact(MultiEvaluation):
    r"""The gradient itself, by enumerating all codes.

    Forward: :math:`b \sim \mathrm{Bernoulli}(p)`. Backward: :math:`\sum_b q(b)\,(b - p)\,f(b)`.

    Unbiased, without variance. :math:`1 + 2^N` evaluations of the loss a step, for codes of
    :math:`N \le 16` bits. The definition of the expected gradient, as written: the sum from which
    [Williams1992] draws.

    Args:
        bits: N, at most 16.

    Raises:
        ValueError: `bits` is below 1 or above 16, or (in `loss`) `s` has not this many.
    """

    randomness = "none"  # the loss is that of drawn bits, its gradient depends on none

    @checked
    def __init__(self, *, bits: Count):
        super().__init__()
        if bits > MOST_BITS:
            raise ValueError(
                f"exact evaluates all 2**bits codes, so bits must be at most {MOST_BITS}, got "
                f"{bits}: set model.bits={MOST_BITS} or less, or take estimator=mvd"
            )
        self.bits = bits

    def shorten(self, bits: int) -> None:
        """Enumerate codes of so many bits."""
        self.bits = bits

    def evaluations(self, bits: int) -> int:
        """Return 1 + 2**bits."""
        return 1 + 2**bits

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Source | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        if s.shape[1] != self.bits:
            raise ValueError(
                f"exact was made for codes of {self.bits} bits, got {s.shape[1]}: set its bits to "
                "the length of the code"
            )
        losses, gradient = f(self.sample(s, generator=generator)), torch.zeros_like(s)
        with torch.no_grad():
            for code in all_codes(self.bits, like=s):
                q = log_probability(code, s).exp()
                # E[b - p] = 0: subtracting the drawn loss changes rounding only, for the better.
                excess = f(code.expand_as(s)) - losses
                gradient += (q * excess)[:, None] * (code - torch.sigmoid(s))
        return losses, gradient


class LocalExpectation(MultiEvaluation):
    r"""Every bit flipped, the others as drawn: measure-valued derivatives, local expectations.

    Forward: :math:`b \sim \mathrm{Bernoulli}(p)`. Backward: :math:`p_i(1-p_i)\,\Delta_i f(b)`.

    Unbiased, of little variance: an oracle for codes that cannot be enumerated.
    N + 1 evaluations of the loss a step. [Titsias2015]
    """

    def evaluations(self, bits: int) -> int:
        """Return bits + 1."""
        return bits + 1

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Source | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        bits, p = self.sample(s, generator=generator), torch.sigmoid(s)
        losses = f(bits)
        differences = torch.zeros_like(s)
        with torch.no_grad():
            for i in range(differences.shape[1]):
                index = torch.full((len(s),), i, device=s.device)
                differences[:, i] = flip_difference(f, bits, losses, index)
        return losses, differences * p * (1 - p)


class BitFlip(MultiEvaluation):
    r"""One bit flipped, chosen at random in every example.

    Forward: :math:`b \sim \mathrm{Bernoulli}(p)`. Backward:
    :math:`N\,1[i = I]\,p_i(1-p_i)\,\Delta_i f(b)` with I uniform over the N bits.

    Unbiased. Two evaluations of the loss a step. [Kunes2022]
    """

    def evaluations(self, bits: int) -> int:
        """Return 2."""
        return 2

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Source | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        bits, p = self.sample(s, generator=generator), torch.sigmoid(s)
        losses, size = f(bits), s.shape[1]
        index = (uniform(s[:, 0], generator=generator) * size).long()
        with torch.no_grad():
            difference = flip_difference(f, bits, losses, index)
        chosen = torch.nn.functional.one_hot(index, size).to(s.dtype)
        return losses, size * chosen * column(difference, s) * p * (1 - p)


def flip_difference(f: PerExampleLoss, bits: Tensor, losses: Tensor, index: Tensor) -> Tensor:
    """Compute ``f(b, b_i=1) - f(b, b_i=0)`` for bit `index` of every row, ``(batch,)``."""
    rows = torch.arange(len(bits), device=bits.device)
    flipped = bits.clone()
    old = flipped[rows, index]
    flipped[rows, index] = 1 - old
    return (losses - f(flipped)) * (2 * old - 1)
