r"""Stochastic bits, one evaluation of the loss: the straight-through family for Bernoulli bits.

Forward, all of them: :math:`b \sim \mathrm{Bernoulli}(p)`, :math:`p = \sigma(s)` where not said
otherwise; in evaluation mode :math:`b = 1[s > 0]`. Backward, with
:math:`g = \partial L/\partial b`: :math:`\partial L/\partial s = g\,w(s, b)`.

References:
    [Bengio2013] Bengio, Léonard, Courville (2013), "Estimating or Propagating Gradients Through
    Stochastic Neurons for Conditional Computation", arXiv:1308.3432.
    [Gregor2014] Gregor, Danihelka, Mnih, Blundell, Wierstra (2014), "Deep AutoRegressive
    Networks", arXiv:1310.8499.
    [Liu2023] Liu, Dong, Liu, Yu, Gao (2023), "Bridging Discrete and Backpropagation:
    Straight-Through and Beyond", arXiv:2304.08612.
    [Shah2024] Shah, Yan, Mozer, Liu (2024), "Improving Discrete Optimisation Via Decoupled
    Straight-Through Gumbel-Softmax", arXiv:2410.13331.
"""

from typing import Literal

import torch
from torch import Tensor

from stelab.arguments import AtLeastOne, Positive, checked
from stelab.estimators.backward import through, wide
from stelab.estimators.base import Estimator, Randomness, step
from stelab.randomness import Source, bernoulli


class Bernoulli(Estimator):
    """What estimators with Bernoulli bits share; a one-pass subclass defines `weight`."""

    randomness: Randomness = "bits"
    draws = True

    def draw(self, s: Tensor, *, generator: Source | None) -> Tensor:
        """Draw bits in training mode; in evaluation mode compute ``1[s > 0]``."""
        return self.sample(s, generator=generator) if self.training else step(s)

    def sample(self, s: Tensor, *, generator: Source | None) -> Tensor:
        """Draw bits, whatever the mode."""
        p = self.probability(wide(s.detach()))
        return bernoulli(p, generator=generator).to(s.dtype)

    def weight(self, s: Tensor, bits: Tensor) -> Tensor:
        """Compute w(s, b), what the gradient is multiplied with, for `s` in float32 or wider."""
        raise NotImplementedError(f"{type(self).__name__} must define weight(s, bits)")

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `Estimator.forward`."""
        bits = self.take(s, bits, generator)
        # In half precision 1 - p is 0 from p = 0.998 on: bits would get stuck on one side.
        return through(s, bits, self.weight(wide(s.detach()), wide(bits)))


class BernoulliStraightThrough(Bernoulli):
    r"""The straight-through estimator for Bernoulli bits.

    Forward: :math:`b \sim \mathrm{Bernoulli}(\sigma(s))`.
    Backward: :math:`g\,q(1-q)/\tau` with :math:`q = \sigma(s/\tau)`, or with
    ``slope="identity"``: :math:`g`.

    With ``slope="sigmoid"`` and :math:`\tau = 1` exact for linear losses, otherwise biased. One
    evaluation of the loss a step. [Bengio2013]

    Args:
        slope: Derivative in place of the step's, ``"sigmoid"`` or ``"identity"``.
        temperature: :math:`\tau`, above 0, of the sigmoid slope.
    """

    @checked
    def __init__(self, *, slope: Literal["sigmoid", "identity"], temperature: Positive):
        super().__init__()
        self.slope = slope
        self.temperature = temperature
        if slope == "sigmoid" and temperature == 1:
            self.exactness = "exact for linear"

    def weight(self, s: Tensor, bits: Tensor) -> Tensor:
        """See the class."""
        if self.slope == "identity":
            return torch.ones_like(s)
        q = torch.sigmoid(s / self.temperature)
        return q * torch.sigmoid(-s / self.temperature) / self.temperature


class DARN(Bernoulli):
    r"""The estimator of deep autoregressive networks, expanded around the mean of the bit.

    Forward: :math:`b \sim \mathrm{Bernoulli}(p)`. Backward: :math:`g\,(b - p)^2`.

    Exact for linear losses. One evaluation of the loss a step. [Gregor2014]
    """

    exactness = "exact for linear"

    def weight(self, s: Tensor, bits: Tensor) -> Tensor:
        """See the class."""
        return (bits - torch.sigmoid(s)).square()


class ReinMax(Bernoulli):
    r"""Heun's second-order rule in place of Euler's, which is straight-through.

    Forward: :math:`b \sim \mathrm{Bernoulli}(p)`.
    Backward: :math:`g\,(2m(1-m) - \tfrac12 p(1-p))` with :math:`m = (\sigma(s/\tau) + b)/2`.

    At :math:`\tau = 1` this is :math:`\tfrac12\,g\,|b - p|`, also known as ZGR, as the
    1/2-estimator, and as DARN expanded around 1/2: the one estimator of a single evaluation that
    is exact for quadratic losses. Above 1 biased, with less variance relative to its mean. One
    evaluation of the loss a step. [Liu2023]

    Args:
        temperature: :math:`\tau`, at least 1.
    """

    @checked
    def __init__(self, *, temperature: AtLeastOne):
        super().__init__()
        self.temperature = temperature
        self.exactness = "exact for quadratic" if temperature == 1 else "biased"

    def weight(self, s: Tensor, bits: Tensor) -> Tensor:
        """See the class."""
        p = torch.sigmoid(s)
        m = (torch.sigmoid(s / self.temperature) + bits) / 2
        return 2 * m * (1 - m) - p * (1 - p) / 2


class DecoupledStraightThrough(Bernoulli):
    r"""Straight-through with one temperature for the bits and another for the gradient.

    Forward: :math:`b \sim \mathrm{Bernoulli}(\sigma(s/\tau_f))`.
    Backward: :math:`g\,q(1-q)/\tau_b` with :math:`q = \sigma(s/\tau_b)`.

    Biased; exact for linear losses where the two are equal. One evaluation of the loss a step.
    [Shah2024]

    Args:
        forward_temperature: :math:`\tau_f`, above 0.
        backward_temperature: :math:`\tau_b`, above 0.
    """

    @checked
    def __init__(self, *, forward_temperature: Positive, backward_temperature: Positive):
        super().__init__()
        self.forward_temperature = forward_temperature
        self.backward_temperature = backward_temperature
        if forward_temperature == backward_temperature:
            self.exactness = "exact for linear"

    def probability(self, s: Tensor) -> Tensor:
        r"""Return :math:`\sigma(s/\tau_f)`."""
        return torch.sigmoid(s / self.forward_temperature)

    def weight(self, s: Tensor, bits: Tensor) -> Tensor:
        """See the class."""
        q = torch.sigmoid(s / self.backward_temperature)
        return q * torch.sigmoid(-s / self.backward_temperature) / self.backward_temperature
