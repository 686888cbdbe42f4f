r"""Second-order rules: Heun's method in place of Euler's, which is straight-through.

The point between the two ends of the step is :math:`m = (\pi + D)/2`.

References:
    [Liu2023] Liu, Dong, Liu, Yu, Gao (2023), "Bridging Discrete and Backpropagation:
    Straight-Through and Beyond", arXiv:2304.08612.
    [Shekhovtsov2023] Shekhovtsov (2023), "Cold Analysis of Rao-Blackwellized Straight-Through
    Gumbel-Softmax Gradient Estimator", ICML.
    [Wang2026] Wang, Bui (2026), "Beyond ReinMax: Low-Variance Gradient Estimators for Discrete
    Latent Variables", arXiv:2603.08257.
"""

import math

import torch
from torch import Tensor

from stelab.arguments import AtLeastOne, Count, Positive, Real, checked
from stelab.categorical.base import Mixture, SoftmaxJacobians
from stelab.categorical.gumbel import conditional_gumbel
from stelab.randomness import Source


def reinmax_mixture(log_pi: Tensor, sample: Tensor, temperature: float) -> Mixture:
    r"""Return :math:`2J(m) - \frac12J(\pi)`, :math:`m = (\mathrm{softmax}(l/\tau) + D)/2`."""
    midpoint = ((log_pi / temperature).softmax(-1) + sample) / 2
    return [(2.0, midpoint), (-0.5, log_pi.exp())]


def log_midpoint(log_pi: Tensor, sample: Tensor) -> Tensor:
    r"""Compute :math:`\log m = \log\frac{\pi + D}2`."""
    return torch.where(sample > 0, log_pi.exp().log1p(), log_pi) - math.log(2)


class ReinMax(SoftmaxJacobians):
    r"""Heun's second-order rule.

    Forward: :math:`D \sim \mathrm{Categorical}(\pi)`.
    Backward: :math:`2J(m)\,g - \tfrac12J(\pi)\,g` with
    :math:`m = (\mathrm{softmax}(l/\tau) + D)/2`.

    There is no factor :math:`1/\tau`, as in the authors' package. At :math:`\tau = 1` exact for
    quadratic losses, see `ZGR`; above 1 biased, with less variance. One evaluation of the loss a
    step. [Liu2023]

    Args:
        temperature: :math:`\tau`, at least 1.
    """

    @checked
    def __init__(self, *, temperature: AtLeastOne):
        super().__init__()
        self.temperature = temperature
        self.exactness = "exact for quadratic" if temperature == 1 else "biased"

    def mixture(self, log_pi: Tensor, sample: Tensor, *, generator: Source | None) -> Mixture:
        """See the class."""
        return reinmax_mixture(log_pi, sample, self.temperature)


class ZGR(ReinMax):
    r"""The limit of `GumbelRao` at temperature 0, which is `ReinMax` at temperature 1.

    Forward: :math:`D \sim \mathrm{Categorical}(\pi)`.
    Backward: :math:`\tfrac12\bigl(J(\pi)\,g + d\,(d \cdot g)\bigr)` with :math:`d = D - \pi`.

    Exact for quadratic losses. One evaluation of the loss a step. [Shekhovtsov2023]
    """

    def __init__(self) -> None:
        super().__init__(temperature=1.0)


class ReinMaxRao(SoftmaxJacobians):
    r"""ReinMax, its first Jacobian taken from Gumbel-Rao at the midpoint.

    Forward: :math:`D \sim \mathrm{Categorical}(\pi)`. Backward:
    :math:`\frac2n\sum_i J(y_i)\,g/\tau - \tfrac12J(\pi)\,g` with
    :math:`y_i = \mathrm{softmax}(z_i/\tau)` and :math:`z_i = \log m + G` drawn given that D is
    its largest entry; no gradient flows through that draw.

    Biased, even for linear losses: as :math:`\tau \to 0`, the mean given D goes to
    :math:`\tfrac12d\,(d \cdot g)` with :math:`d = D - \pi`, and so to half of their gradient.
    One evaluation of the loss a step; memory for n times the logits. [Wang2026]

    Args:
        samples: n, at least 1.
        temperature: :math:`\tau`, above 0.
    """

    randomness = "noise"

    @checked
    def __init__(self, *, samples: Count, temperature: Positive):
        super().__init__()
        self.samples = samples
        self.temperature = temperature

    def mixture(self, log_pi: Tensor, sample: Tensor, *, generator: Source | None) -> Mixture:
        """See the class."""
        log_m = log_midpoint(log_pi, sample)
        z = conditional_gumbel(log_m, sample, samples=self.samples, generator=generator)
        y = (z / self.temperature).softmax(-1)
        return [(2 / self.temperature, y), (-0.5, log_pi.exp())]


class ReinMaxCV(SoftmaxJacobians):
    r"""ReinMax plus a control variate: Gumbel-Rao less straight-through Gumbel-softmax.

    Forward: :math:`D \sim \mathrm{Categorical}(\pi)`. Backward:
    :math:`2J(m)\,g - \tfrac12J(\pi)\,g
    + \frac\eta\tau\bigl(\frac1n\sum_i J(y_i) - J(y_0)\bigr)g` with
    :math:`y_i = \mathrm{softmax}(z_i/\tau)` and all n + 1 of :math:`z_i = \log m + G` drawn given
    that D is its largest entry; no gradient flows through that draw.

    Given D the correction has mean 0. The mean is therefore that of `ReinMax` at temperature 1,
    exact for quadratic losses, and the variance is not below its: ReinMax has none given D.
    One evaluation of the loss a step; memory for n times the logits. [Wang2026]

    Args:
        strength: :math:`\eta`; at 0 this is ReinMax.
        samples: n, at least 1.
        temperature: :math:`\tau`, above 0, of the control variate.
    """

    exactness = "exact for quadratic"
    randomness = "noise"

    @checked
    def __init__(self, *, strength: Real, samples: Count, temperature: Positive):
        super().__init__()
        self.strength = strength
        self.samples = samples
        self.temperature = temperature

    def mixture(self, log_pi: Tensor, sample: Tensor, *, generator: Source | None) -> Mixture:
        """See the class."""
        log_m = log_midpoint(log_pi, sample)
        z = conditional_gumbel(log_m, sample, samples=self.samples + 1, generator=generator)
        y = (z / self.temperature).softmax(-1)
        scale = self.strength / self.temperature
        correction = [(scale, y[1:]), (-scale, y[0])]
        return [*reinmax_mixture(log_pi, sample, 1.0), *correction]
