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

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from stelab.config.types import Count, Positive, Real, checked
from stelab.estimators.base import PerExampleLoss
from stelab.estimators.bernoulli import uniform
from stelab.estimators.gumbel import noisy_logit
from stelab.estimators.multi_evaluation import MultiEvaluation, column
from stelab.estimators.variance import VarianceNet, leave_gradient, stand_in, variance_parameter


def value_and_slope(f: PerExampleLoss, at: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate f and its gradient at each example's code; the value keeps its history."""
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        losses = f(at)
        (slope,) = torch.autograd.grad(losses.sum(), at, retain_graph=True)
    return losses, slope


class MuProp(MultiEvaluation):
    r"""A first-order expansion of f around the mean of the bits.

    Forward: :math:`b \sim \mathrm{Bernoulli}(p)`. Backward:
    :math:`[f(b) - f(p) - f'(p)^\top(b - p)](b - p) + f'(p)\,p(1-p)`.

    Unbiased. Two evaluations of the loss a step. [Gu2016]
    """

    def evaluations(self, bits: int) -> int:
        """Return 2."""
        return 2

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        bits, p = self.sample(s, generator=generator), torch.sigmoid(s)
        losses = f(bits)
        mean_field, slope = value_and_slope(f, p)
        explained = mean_field.detach() + (slope * (bits - p)).flatten(1).sum(1)
        residual = column(losses.detach() - explained, s)
        return losses, residual * (bits - p) + slope * p * (1 - p)


class Rebar(MultiEvaluation):
    r"""The relaxed loss as control variate, its strength and temperature learned.

    With z and :math:`\tilde z` the noisy logits of the bits, z drawn with them and
    :math:`\tilde z` given them, and :math:`h(z) = f(\sigma(z/\tau))`,

    Forward: :math:`b = 1[z > 0]`. Backward: :math:`[f(b) - \eta h(\tilde z)](b - p) +
    \eta\,\partial_s[h(z) - h(\tilde z)]`.

    Unbiased. Three evaluations of the loss a step, two of them differentiated. [Tucker2017]

    Args:
        strength: Where :math:`\eta` starts.
        temperature: Where :math:`\tau` starts, above 0.
        learning_rate: Of the optimizer of both.

    Raises:
        ValueError: An argument is out of its range.
    """

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
        self, s: Tensor, f: PerExampleLoss, *, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        parameters = [self.strength, self.log_temperature]
        stand_ins = [stand_in(p) for p in parameters]
        strength, temperature = stand_ins[0].to(s.dtype), stand_ins[1].exp().to(s.dtype)
        with torch.enable_grad():
            losses, gradient = coupled_estimate(
                s, f, lambda z: strength * f(torch.sigmoid(z / temperature)), generator
            )
            leave_gradient(gradient.square().flatten(1).sum(1).mean(), parameters, stand_ins)
        return losses, gradient

    def extra_repr(self) -> str:
        """Show the learning rate in ``print(model)``."""
        return f"learning_rate={self.learning_rate}"


def coupled_estimate(
    s: Tensor, f: PerExampleLoss, control: PerExampleLoss, generator: Generator | None
) -> tuple[Tensor, Tensor]:
    r"""Compute :math:`[f(b) - c(\tilde z)](b - p) + \partial_s[c(z) - c(\tilde z)]`.

    Both noisy logits share their sign with the bits, and :math:`\tilde z` is drawn given them.
    """
    s = s.detach().requires_grad_()
    u, v = uniform(s, generator=generator), uniform(s, generator=generator)
    z = s + torch.logit(u)
    bits = (z > 0).to(s.dtype)
    conditional = noisy_logit(s, bits, v)
    losses, at_z, at_conditional = f(bits), control(z), control(conditional)
    (slope,) = torch.autograd.grad((at_z - at_conditional).sum(), s, create_graph=True)
    residual = column(losses.detach() - at_conditional, s)
    return losses, residual * (bits - torch.sigmoid(s.detach())) + slope


class Relax(MultiEvaluation):
    r"""REBAR's control variate plus a free-form network.

    With z and :math:`\tilde z` as in `Rebar`, and with a network r in
    :math:`c(z) = f(\sigma(z/\tau)) + r(z)`,

    Forward: :math:`b = 1[z > 0]`. Backward: :math:`[f(b) - c(\tilde z)](b - p) +
    \partial_s[c(z) - c(\tilde z)]`.

    Unbiased. Three evaluations of the loss a step, two of them differentiated. [Grathwohl2018]

    Args:
        bits: Bits of a code.
        hidden: Width of the network's hidden layer.
        temperature: Where :math:`\tau` starts, above 0.
        learning_rate: Of the optimizer of network and temperature.

    Raises:
        ValueError: An argument is out of its range.
    """

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
        self, s: Tensor, f: PerExampleLoss, *, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        net, log_temperature = self.net.stand_ins(), stand_in(self.log_temperature)
        temperature = log_temperature.exp().to(s.dtype)
        with torch.enable_grad():
            losses, gradient = coupled_estimate(
                s, f, lambda z: f(torch.sigmoid(z / temperature)) + self.net(z, net), generator
            )
            leave_gradient(
                gradient.square().flatten(1).sum(1).mean(),
                [*self.net.layers.parameters(), self.log_temperature],
                [*net.values(), log_temperature],
            )
        return losses, gradient

    def extra_repr(self) -> str:
        """Show the learning rate in ``print(model)``."""
        return f"learning_rate={self.learning_rate}"


class DoubleControlVariates(MultiEvaluation):
    r"""Leave-one-out with two codes, each a linear stand-in for f at the other.

    With :math:`g_k = f'(b_k)` and a learned strength a,

    Forward: :math:`b_0, b_1 \sim \mathrm{Bernoulli}(p)`. Backward:
    :math:`\tfrac12[f(b_0) + a\,g_1^\top(b_0 - p) - f(b_1) - a\,g_0^\top(b_1 - p)](b_0 - b_1)
    - \tfrac a2(g_0 + g_1)\,p(1-p)`.

    Unbiased; a goes below 0. Two evaluations of the loss a step, both differentiated.
    [Titsias2022]

    Args:
        strength: Where a starts.
        learning_rate: Of its optimizer.

    Raises:
        ValueError: An argument is out of its range.
    """

    @checked
    def __init__(self, *, strength: Real, learning_rate: Positive):
        super().__init__()
        self.strength = variance_parameter(strength)
        self.learning_rate = learning_rate

    def evaluations(self, bits: int) -> int:
        """Return 2."""
        return 2

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        p = torch.sigmoid(s)
        bits = [self.sample(s, generator=generator) for _ in range(2)]
        (first, g0), (second, g1) = (value_and_slope(f, b) for b in bits)
        with torch.enable_grad():
            a = stand_in(self.strength)
            linear = (g1 * (bits[0] - p) - g0 * (bits[1] - p)).flatten(1).sum(1)
            difference = column((first - second).detach() + a.to(s.dtype) * linear, s)
            gradient = difference * (bits[0] - bits[1]) / 2 - a / 2 * (g0 + g1) * p * (1 - p)
            leave_gradient(gradient.square().flatten(1).sum(1).mean(), [self.strength], [a])
        return (first + second) / 2, gradient

    def extra_repr(self) -> str:
        """Show the learning rate in ``print(model)``."""
        return f"learning_rate={self.learning_rate}"
