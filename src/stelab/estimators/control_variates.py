r"""Score-function estimators that subtract what a differentiable stand-in for f explains.

Forward, all of them: :math:`b \sim \mathrm{Bernoulli}(p)`, :math:`p = \sigma(s)`. All are
unbiased. Their parameters minimize :math:`\mathbb{E}\|\hat g\|^2`, see
`stelab.estimators.variance`.

References:
    [Gu2016] Gu, Levine, Sutskever, Mnih (2016), "MuProp: Unbiased Backpropagation for Stochastic
    Neural Networks", arXiv:1511.05176.
    [Tucker2017] Tucker, Mnih, Maddison, Lawson, Sohl-Dickstein (2017), "REBAR", arXiv:1703.07370.
    [Grathwohl2018] Grathwohl, Choi, Wu, Roeder, Duvenaud (2018), "Backpropagation through the
    Void", arXiv:1711.00123.
    [Titsias2022] Titsias, Shi (2022), "Double Control Variates for Gradient Estimation in
    Discrete Latent Variable Models", arXiv:2111.05300.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stelab.arguments import Count, Positive, Real, checked
from stelab.estimators.base import PerExampleLoss
from stelab.estimators.gumbel import noisy_logit
from stelab.estimators.multi_evaluation import MultiEvaluation, column
from stelab.estimators.variance import VarianceNet, stand_in, variance_parameter
from stelab.randomness import Source, uniform


def value_and_slope(f: PerExampleLoss, at: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate f and its gradient at each example's code; the value keeps its history.

    The gradient is 0 where f has none (it ignores the code, is piecewise constant, a black box),
    and where gradients are off.
    """
    at = at.detach().requires_grad_(torch.is_grad_enabled())
    losses = f(at)
    return losses, slopes(losses, losses.sum(), [at])[0]


def slopes(
    losses: Tensor, total: Tensor, at: Sequence[Tensor], *, create_graph: bool = False
) -> Sequence[Tensor]:
    r"""Differentiate `total`, with zeros where it does not depend on `at`.

    In half precision f goes backward in half, where the slopes of small losses are 0 and those of
    large ones infinite. So they are scaled with a power of two, near :math:`|f|^{-1/2}` for the
    magnitude of `losses`, and scaled back in float32, which changes no digit.
    """
    if not total.requires_grad:
        return [torch.zeros_like(x) for x in at]
    exponent = (losses.detach().abs().mean().log2() / 2).round().clamp(-12, 12)
    scaled = torch.autograd.grad(
        total * (-exponent).exp2(),
        at,
        retain_graph=True,
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=True,
    )
    return [x * exponent.exp2() for x in scaled]


class MuProp(MultiEvaluation):
    r"""A first-order expansion of f around the mean of the bits.

    Forward: :math:`b \sim \mathrm{Bernoulli}(p)`. Backward:
    :math:`[f(b) - f(p) - f'(p)^\top(b - p)](b - p) + f'(p)\,p(1-p)`.

    Unbiased, also where f has no derivative: its expansion is then a constant. Two evaluations of
    the loss a step. [Gu2016]
    """

    differentiates = True

    def evaluations(self, bits: int) -> int:
        """Return 2."""
        return 2

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Source | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        bits, p = self.sample(s, generator=generator), torch.sigmoid(s)
        losses = f(bits)
        mean_field, slope = value_and_slope(f, p)
        explained = mean_field.detach() + (slope * (bits - p)).sum(1)
        residual = column(losses.detach() - explained, s)
        return losses, residual * (bits - p) + slope * p * (1 - p)


class Rebar(MultiEvaluation):
    r"""The relaxed loss as control variate, its strength and temperature learned.

    With z and :math:`\tilde z` the noisy logits of the bits, z drawn with them and
    :math:`\tilde z` given them, and :math:`h(z) = f(\sigma(z/\tau))`,

    Forward: :math:`b = 1[z > 0]`. Backward: :math:`[f(b) - \eta h(\tilde z)](b - p) +
    \eta\,\partial_s[h(z) - h(\tilde z)]`.

    Unbiased. Three evaluations of the loss a step, two of them differentiated; of a loss that
    cannot be (piecewise constant, a black box), `Reinforce` without a baseline. [Tucker2017]

    Args:
        strength: Where :math:`\eta` starts.
        temperature: Where :math:`\tau` starts, above 0.
        learning_rate: Of the optimizer of both.
    """

    differentiates = True

    @checked
    def __init__(self, *, strength: Real, temperature: Positive, learning_rate: Positive):
        super().__init__()
        self.strength = variance_parameter(strength)
        self.log_temperature = variance_parameter(math.log(temperature))
        self.learning_rate = learning_rate

    def evaluations(self, bits: int) -> int:
        """Return 3."""
        return 3

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Source | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        parameters = [self.strength, self.log_temperature]
        strength, log_temperature = stand_ins = [stand_in(p) for p in parameters]
        losses, gradient = coupled_estimate(
            s,
            f,
            strength=strength.to(s.dtype),
            temperature=log_temperature.exp().to(s.dtype),
            generator=generator,
        )
        self.learn(gradient, parameters, stand_ins)
        return losses, gradient


def coupled_estimate(
    s: Tensor,
    f: PerExampleLoss,
    *,
    temperature: Tensor,
    strength: Tensor | float = 1.0,
    network: PerExampleLoss | None = None,
    generator: Source | None,
) -> tuple[Tensor, Tensor]:
    r"""Compute :math:`[f(b) - c(\tilde z)](b - p) + \partial_s[c(z) - c(\tilde z)]`.

    Here :math:`c(z) = \eta f(\sigma(z/\tau)) + r(z)`. Both noisy logits share their sign with the
    bits, and :math:`\tilde z` is drawn given them. An f without a slope anywhere in the batch is
    left out of c: its mean moves with s, but no derivative would tell.
    """
    s = s.detach().requires_grad_(torch.is_grad_enabled())
    u, v = uniform(s, generator=generator), uniform(s, generator=generator)
    z = s + torch.logit(u)
    bits = (z > 0).to(s.dtype)
    losses = f(bits)
    if not torch.is_grad_enabled():
        return losses, torch.zeros_like(s)
    noisy = [z, noisy_logit(s, bits, v)]
    relaxed = [torch.sigmoid(x / temperature) for x in noisy]
    explained = [strength * f(y) for y in relaxed]
    at_z, at_conditional = (
        e if network is None else e + network(x) for e, x in zip(explained, noisy, strict=True)
    )
    slope, *inner = slopes(losses, (at_z - at_conditional).sum(), [s, *relaxed], create_graph=True)
    flat = torch.stack([(x == 0).all() for x in inner]).all()
    residual = losses.detach() - at_conditional + explained[1].masked_fill(~flat, 0)
    return losses, column(residual, s) * (bits - torch.sigmoid(s.detach())) + slope


class Relax(MultiEvaluation):
    r"""REBAR's control variate plus a free-form network.

    With z and :math:`\tilde z` as in `Rebar`, and with a network r in
    :math:`c(z) = f(\sigma(z/\tau)) + r(z)`,

    Forward: :math:`b = 1[z > 0]`. Backward: :math:`[f(b) - c(\tilde z)](b - p) +
    \partial_s[c(z) - c(\tilde z)]`.

    Unbiased. Three evaluations of the loss a step, two of them differentiated; of a loss that
    cannot be (piecewise constant, a black box), the network alone is c. [Grathwohl2018]

    Args:
        bits: Bits of a code.
        hidden: Width of the network's hidden layer.
        temperature: Where :math:`\tau` starts, above 0.
        learning_rate: Of the optimizer of network and temperature.
    """

    differentiates = True

    @checked
    def __init__(
        self, *, bits: Count, hidden: Count, temperature: Positive, learning_rate: Positive
    ):
        super().__init__()
        self.net = VarianceNet(bits=bits, hidden=hidden)
        # The network starts as 0: it can only lower the variance from there.
        for parameter in self.net.layers[-1].parameters():
            nn.init.zeros_(parameter)
        self.log_temperature = variance_parameter(math.log(temperature))
        self.learning_rate = learning_rate

    def evaluations(self, bits: int) -> int:
        """Return 3."""
        return 3

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Source | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        net, log_temperature = self.net.stand_ins(), stand_in(self.log_temperature)
        losses, gradient = coupled_estimate(
            s,
            f,
            temperature=log_temperature.exp().to(s.dtype),
            network=lambda z: self.net(z, net),
            generator=generator,
        )
        parameters = [*self.net.layers.parameters(), self.log_temperature]
        self.learn(gradient, parameters, [*net.values(), log_temperature])
        return losses, gradient


class DoubleControlVariates(MultiEvaluation):
    r"""Leave-one-out with two codes, each a linear stand-in for f at the other.

    With :math:`g_k = f'(b_k)` and a learned strength a,

    Forward: :math:`b_0, b_1 \sim \mathrm{Bernoulli}(p)`. Backward:
    :math:`\tfrac12[f(b_0) + a\,g_1^\top(b_0 - p) - f(b_1) - a\,g_0^\top(b_1 - p)](b_0 - b_1)
    - \tfrac a2(g_0 + g_1)\,p(1-p)`.

    Unbiased; a goes below 0. Two evaluations of the loss a step, both differentiated; of a loss
    that cannot be, `LeaveOneOut`. [Titsias2022]

    Args:
        strength: Where a starts.
        learning_rate: Of its optimizer.
    """

    differentiates = True

    @checked
    def __init__(self, *, strength: Real, learning_rate: Positive):
        super().__init__()
        self.strength = variance_parameter(strength)
        self.learning_rate = learning_rate

    def evaluations(self, bits: int) -> int:
        """Return 2."""
        return 2

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Source | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        p, a = torch.sigmoid(s), stand_in(self.strength)
        bits = [self.sample(s, generator=generator) for _ in range(2)]
        (first, g0), (second, g1) = (value_and_slope(f, b) for b in bits)
        linear = (g1 * (bits[0] - p) - g0 * (bits[1] - p)).sum(1)
        difference = column((first - second).detach() + a.to(s.dtype) * linear, s)
        gradient = difference * (bits[0] - bits[1]) / 2 - a / 2 * (g0 + g1) * p * (1 - p)
        self.learn(gradient, [self.strength], [a])
        return (first + second) / 2, gradient
