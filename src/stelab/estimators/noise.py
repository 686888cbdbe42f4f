r"""A step behind noise: one family for many surrogates, and for their stochastic twins.

With noise :math:`\varepsilon` of distribution function F and density F', symmetric about 0,

.. math:: b = 1[s + \kappa\varepsilon > 0], \qquad P(b = 1) = F(s/\kappa), \qquad
   \frac{\partial P(b = 1)}{\partial s} = F'(s/\kappa)/\kappa .

Keep the noise and the backward pass :math:`g\,F'(s/\kappa)/\kappa` is exact for linear losses.
Drop it forward, :math:`b = 1[s > 0]`, and a surrogate derivative of mass 1 is left: uniform noise
gives `ClippedInput` with a normalized mass, triangular `ApproxSign`, logistic `SigmoidSlope`.

References:
    [Shekhovtsov2021] Shekhovtsov, Yanush (2021), "Reintroducing Straight-Through Estimators as
    Principled Methods for Stochastic Binary Networks", arXiv:2006.06880.
"""

import torch
from torch import Tensor

from stelab.arguments import Flag, Positive, checked
from stelab.estimators.backward import through, wide
from stelab.estimators.base import step
from stelab.estimators.bernoulli import Bernoulli
from stelab.randomness import Source


class Noise(Bernoulli):
    r"""What the family shares; a subclass defines `distribution` and `density` at scale 1.

    Args:
        scale: :math:`\kappa`, above 0.
        stochastic: Whether the noise is there in the forward pass (in training mode).

    Attributes:
        constant: Whether the density is piecewise constant.
    """

    constant = False

    @checked
    def __init__(self, *, scale: Positive, stochastic: Flag):
        super().__init__()
        self.scale = scale
        self.stochastic = self.draws = stochastic
        self.randomness = "bits" if stochastic else "none"
        self.exactness = "exact for linear" if stochastic else "biased"

    def distribution(self, e: Tensor) -> Tensor:
        """Compute F(e)."""
        raise NotImplementedError(f"{type(self).__name__} must define distribution(e)")

    def density(self, e: Tensor) -> Tensor:
        """Compute F'(e)."""
        raise NotImplementedError(f"{type(self).__name__} must define density(e)")

    def probability(self, s: Tensor) -> Tensor:
        r"""Return :math:`F(s/\kappa)`."""
        return self.distribution(s / self.scale)

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `Estimator.forward`; `generator` is ignored unless `stochastic`."""
        bits = self.take(s, bits, generator)
        slope = self.density(wide(s.detach()) / self.scale) / self.scale
        return through(s, bits, slope, constant=self.constant)

    def draw(self, s: Tensor, *, generator: Source | None) -> Tensor:
        """Draw bits if `stochastic` (and training); else compute the step."""
        return super().draw(s, generator=generator) if self.stochastic else step(s)


class UniformNoise(Noise):
    r"""Noise uniform on :math:`[-\kappa, \kappa]`.

    Forward: :math:`b = 1[s > 0]`; if stochastic :math:`b = 1[s + \kappa\varepsilon > 0]`.
    Backward: :math:`g\,\frac{1}{2\kappa}\,1[|s| \le \kappa]`.

    Biased; if stochastic exact for linear losses. One evaluation of the loss a step.
    [Shekhovtsov2021] Arguments: see `Noise`.
    """

    constant = True

    def distribution(self, e: Tensor) -> Tensor:
        """See `Noise`."""
        return ((1 + e) / 2).clamp(0, 1)

    def density(self, e: Tensor) -> Tensor:
        """See `Noise`."""
        return (e.abs() <= 1).to(e.dtype) / 2


class TriangularNoise(Noise):
    r"""Triangular noise on :math:`[-\kappa, \kappa]`.

    Forward: :math:`b = 1[s > 0]`; if stochastic :math:`b = 1[s + \kappa\varepsilon > 0]`.
    Backward: :math:`g\,\frac1\kappa\,\max(0, 1 - |s|/\kappa)`.

    Biased; if stochastic exact for linear losses. One evaluation of the loss a step.
    [Shekhovtsov2021] Arguments: see `Noise`.
    """

    def distribution(self, e: Tensor) -> Tensor:
        """See `Noise`."""
        c = e.clamp(-1, 1)
        return 0.5 + c - c * c.abs() / 2

    def density(self, e: Tensor) -> Tensor:
        """See `Noise`."""
        return (1 - e.abs()).clamp_min(0)


class LogisticNoise(Noise):
    r"""Logistic noise of scale :math:`\kappa`.

    Forward: :math:`b = 1[s > 0]`; if stochastic :math:`b = 1[s + \kappa\varepsilon > 0]`.
    Backward: :math:`g\,\sigma(s/\kappa)(1 - \sigma(s/\kappa))/\kappa`.

    Biased; if stochastic exact for linear losses. One evaluation of the loss a step.
    [Shekhovtsov2021] Arguments: see `Noise`.
    """

    def distribution(self, e: Tensor) -> Tensor:
        """See `Noise`."""
        return torch.sigmoid(e)

    def density(self, e: Tensor) -> Tensor:
        """See `Noise`."""
        return torch.sigmoid(e) * torch.sigmoid(-e)
