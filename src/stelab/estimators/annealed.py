r"""Estimators that harden while training; their schedules run with `stelab.annealing`.

With :math:`g = \partial L/\partial b`. The progress r goes from 0 to 1.

References:
    [Qin2020] Qin, Gong, Liu, Shen, Wei, Yu, Song (2020), "Forward and Backward Information
    Retention for Accurate Binary Neural Networks", arXiv:1909.10788.
    [Chung2017] Chung, Ahn, Bengio (2017), "Hierarchical Multiscale Recurrent Neural Networks",
    arXiv:1609.01704.
    [Cao2017] Cao, Long, Wang, Yu (2017), "HashNet: Deep Learning to Hash by Continuation",
    arXiv:1702.00758.
    [Shekhovtsov2021] Shekhovtsov, Yanush (2021), "Reintroducing Straight-Through Estimators as
    Principled Methods for Stochastic Binary Networks", arXiv:2006.06880.
"""

import torch
from torch import Tensor

from stelab.annealing import Scheduled
from stelab.arguments import Flag, Positive, checked
from stelab.estimators.backward import known, through, wide
from stelab.estimators.base import Estimator, step
from stelab.estimators.bernoulli import Bernoulli
from stelab.randomness import Source


class EDE(Scheduled, Estimator):
    r"""The error decay estimator of IR-Net: first nearly the identity, last nearly a step.

    Forward: :math:`b = 1[s > 0]`. Backward: :math:`g\,\frac{k t}{2}(1 - \tanh^2 ts)` with
    :math:`t = \mathrm{start}\,(\mathrm{end}/\mathrm{start})^r` and :math:`k = \max(1/t, 1)`.

    Mass k, which falls from 1/start to 1; with `normalize_mass`, :math:`k = 1`. Biased. One
    evaluation of the loss a step, no randomness. [Qin2020], halved.

    Args:
        start: t before the first step, above 0.
        end: t after the last step, above 0.
        normalize_mass: Divide by the mass, so that it is 1 throughout.
    """

    @checked
    def __init__(self, *, start: Positive, end: Positive, normalize_mass: Flag):
        super().__init__(start=start, end=end)
        self.normalize_mass = normalize_mass

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `Estimator.forward`; `generator` is ignored."""
        x = wide(s.detach())
        t = self.geometric().to(x.dtype)
        height = t if self.normalize_mass else t.clamp_min(1)  # k t = max(1, t)
        slope = height / 2 * (1 - torch.tanh(t * x).square())
        return through(s, bits, slope)

    def probability(self, s: Tensor) -> Tensor:
        r"""Return :math:`(1 + \tanh ts)/2`, whose derivative has the surrogate's shape."""
        return torch.sigmoid(2 * self.geometric().to(s.dtype) * s)


class SlopeAnnealed(Scheduled, Bernoulli):
    r"""A hard sigmoid whose slope grows.

    With :math:`h = \max(0, \min(1, (as + 1)/2))` and :math:`a` linear in r,

    Forward: :math:`b = 1[s > 0]`; if stochastic :math:`b \sim \mathrm{Bernoulli}(h)`.
    Backward: :math:`g\,\frac a2\,1[|as| < 1]`.

    Biased; if stochastic exact for linear losses. One evaluation of the loss a step. [Chung2017]

    Args:
        start: a before the first step, above 0.
        end: a after the last step, above 0.
        stochastic: Whether bits are drawn (in training mode).
    """

    @checked
    def __init__(self, *, start: Positive, end: Positive, stochastic: Flag):
        super().__init__(start=start, end=end)
        self.stochastic = stochastic
        self.randomness = "bits" if stochastic else "none"
        self.exactness = "exact for linear" if stochastic else "biased"

    def probability(self, s: Tensor) -> Tensor:
        """Return h."""
        return ((self.linear().to(s.dtype) * s + 1) / 2).clamp(0, 1)

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `Estimator.forward`; `generator` is ignored unless `stochastic`."""
        x = wide(s.detach())
        a = self.linear().to(x.dtype)
        slope = a / 2 * ((a * x).abs() < 1).to(x.dtype)
        return through(s, self.take(s, bits, generator), slope, constant=True)

    def draw(self, s: Tensor, *, generator: Source | None) -> Tensor:
        """Draw bits if `stochastic` (and training); else compute the step."""
        return super().draw(s, generator=generator) if self.stochastic else step(s)


class NoiseAnnealed(Scheduled, Bernoulli):
    r"""A step behind logistic noise that dies down.

    With :math:`\kappa = \mathrm{start}\,(\mathrm{end}/\mathrm{start})^r`,

    Forward: :math:`b = 1[s + \kappa\varepsilon > 0]`, in evaluation mode :math:`1[s > 0]`.
    Backward: :math:`g\,\sigma(s/\kappa)(1 - \sigma(s/\kappa))/\kappa`.

    Exact for linear losses. One evaluation of the loss a step. [Shekhovtsov2021]

    Args:
        start: Scale of the noise before the first step, above 0.
        end: Scale of the noise after the last step, above 0.
    """

    exactness = "exact for linear"

    @checked
    def __init__(self, *, start: Positive, end: Positive):
        super().__init__(start=start, end=end)

    def probability(self, s: Tensor) -> Tensor:
        r"""Return :math:`\sigma(s/\kappa)`."""
        return torch.sigmoid(s / self.geometric().to(s.dtype))

    def weight(self, s: Tensor, bits: Tensor) -> Tensor:
        """See the class."""
        scale = self.geometric().to(s.dtype)
        return torch.sigmoid(s / scale) * torch.sigmoid(-s / scale) / scale


class Progressive(Scheduled, Estimator):
    r"""Continuation: soft in training, harder and harder; bits in evaluation.

    With :math:`\beta = \mathrm{start}\,(\mathrm{end}/\mathrm{start})^r`,

    Forward: :math:`y = \sigma(\beta s)`; in evaluation mode :math:`b = 1[s > 0]`.
    Backward: :math:`g\,\beta\,y\,(1 - y)`, the derivative of what was computed.

    Biased as an estimate for bits. One evaluation of the loss a step, no randomness. [Cao2017]

    Args:
        start: beta before the first step, above 0.
        end: beta after the last step, above 0.
    """

    relaxed = True

    @checked
    def __init__(self, *, start: Positive, end: Positive):
        super().__init__(start=start, end=end)

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `Estimator.forward`; `generator` is ignored, given bits are taken."""
        soft = self.probability(known(s))
        if bits is None and self.training:
            return soft.to(s.dtype)
        y = soft.detach()
        beta = self.geometric().to(y.dtype)
        return through(s, self.take(s, bits, generator), beta * y * (1 - y))

    def probability(self, s: Tensor) -> Tensor:
        r"""Return :math:`\sigma(\beta s)`."""
        return torch.sigmoid(self.geometric().to(s.dtype) * s)
