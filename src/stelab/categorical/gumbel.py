r"""Relaxed one-hots: a softmax of the logits plus Gumbel noise, and its noiseless stand-in.

With :math:`z = \log\pi + G`, G of independent standard Gumbels, the one-hot of the largest z is
:math:`D \sim \mathrm{Categorical}(\pi)`. Here the one-hot comes first and z is drawn given the
one-hot, which is the same law: classes can be enumerated, and z can be drawn again.

References:
    [Jang2017] Jang, Gu, Poole (2017), "Categorical Reparameterization with Gumbel-Softmax",
    arXiv:1611.01144.
    [Maddison2017] Maddison, Mnih, Teh (2017), "The Concrete Distribution", arXiv:1611.00712.
    [Paulus2021] Paulus, Maddison, Krause (2021), "Rao-Blackwellizing the Straight-Through
    Gumbel-Softmax Gradient Estimator", arXiv:2010.04838.
    [Fan2022] Fan, Chi, Rudnicky, Ramadge (2022), "Training Discrete Deep Generative Models via
    Gapped Straight-Through Estimator", arXiv:2206.07235.
    [Hooper2026] Hooper, Shekhovtsov (2026), "Generalized and Optimal Straight-Through
    Estimators", AISTATS.
"""

from typing import Literal

import torch
from torch import Tensor

from stelab.annealing import Scheduled
from stelab.arguments import Count, NonNegative, Positive, checked
from stelab.categorical.base import Mixture, SoftmaxJacobians
from stelab.randomness import Source, exponential


def conditional_gumbel(
    log_pi: Tensor, sample: Tensor, *, samples: int, generator: Source | None
) -> Tensor:
    r"""Draw :math:`z = \log\pi + G` given that its largest entry is that of the one-hot D.

    .. math:: z_D = -\log E_D, \qquad z_j = -\log(E_j/\pi_j + E_D) \text{ elsewhere},

    E of independent Exp(1). Written with logaddexp, which overflows nowhere.

    Args:
        log_pi: Normalized log-probabilities, shape ``(..., K)``; -inf excludes a class.
        sample: D, in the shape and dtype of `log_pi`.
        samples: n, the number of draws.
        generator: Source of randomness.

    Returns:
        z, shape ``(n, ..., K)``.
    """
    e = exponential(log_pi.expand(samples, *log_pi.shape), generator=generator)
    log_top = (e * sample).sum(-1, keepdim=True).log()
    return -torch.where(sample > 0, log_top, torch.logaddexp(e.log() - log_pi, log_top))


class GumbelRao(SoftmaxJacobians):
    r"""Gumbel-softmax straight-through, averaged over n draws of the noise given the one-hot.

    Forward: :math:`D \sim \mathrm{Categorical}(\pi)`. Backward:
    :math:`\frac1n\sum_i J(y_i)\,g/\tau` with :math:`y_i = \mathrm{softmax}(z_i/\tau)` and
    :math:`z_i` drawn given D; no gradient flows through that draw.

    Biased, the same mean for every n, the less the smaller :math:`\tau`; variance falls with n
    and grows as :math:`\tau` falls. One evaluation of the loss a step; memory for n times the
    logits. [Paulus2021]

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
        z = conditional_gumbel(log_pi, sample, samples=self.samples, generator=generator)
        return [(1 / self.temperature, (z / self.temperature).softmax(-1))]


class AnnealedGumbelRao(Scheduled, SoftmaxJacobians):
    r"""`GumbelRao`, its temperature moved geometrically while training.

    Forward: :math:`D \sim \mathrm{Categorical}(\pi)`. Backward: that of `GumbelRao` at
    :math:`\tau = \mathrm{start}\,(\mathrm{end}/\mathrm{start})^r`, r the share of training done.

    Biased, less and less where the temperature falls, at the cost of variance. One evaluation of
    the loss a step; memory for n times the logits. [Paulus2021], so annealed [Hooper2026]

    Args:
        samples: n, at least 1.
        start: :math:`\tau` before the first step, above 0.
        end: :math:`\tau` after the last step, above 0.
    """

    randomness = "noise"

    @checked
    def __init__(self, *, samples: Count, start: Positive, end: Positive):
        super().__init__(start=start, end=end)
        self.samples = samples

    def mixture(self, log_pi: Tensor, sample: Tensor, *, generator: Source | None) -> Mixture:
        """See the class."""
        temperature = self.geometric().to(log_pi.dtype)
        z = conditional_gumbel(log_pi, sample, samples=self.samples, generator=generator)
        return [(1 / temperature, (z / temperature).softmax(-1))]


class GumbelStraightThrough(GumbelRao):
    r"""The straight-through Gumbel-softmax: hard forward, the relaxation's Jacobian backward.

    Forward: D, the one-hot of the largest z. Backward: :math:`J(y)\,g/\tau` with
    :math:`y = \mathrm{softmax}(z/\tau)`.

    `GumbelRao` with one draw. Biased, the less the smaller :math:`\tau`, at the cost of variance.
    One evaluation of the loss a step. [Jang2017], [Maddison2017]

    Args:
        temperature: :math:`\tau`, above 0.
    """

    @checked
    def __init__(self, *, temperature: Positive):
        super().__init__(samples=1, temperature=temperature)


class GappedStraightThrough(SoftmaxJacobians):
    r"""Straight-through at logits moved so that the drawn class leads by a gap, without noise.

    Forward: :math:`D \sim \mathrm{Categorical}(\pi)`. Backward: :math:`J(q)\,g/\tau` with
    :math:`q = \mathrm{softmax}(\tilde l/\tau)`, where :math:`\tilde l_D = \max l` and elsewhere
    :math:`\tilde l_j = \min(l_j, \max l - \gamma)`; no gradient flows through the move.

    With ``gap="p"`` the gap is :math:`\gamma = -\log(1 - \pi_D)/\pi_D`, at least 1 and larger for
    likelier classes.

    Biased. One evaluation of the loss a step. [Fan2022]

    Args:
        gap: :math:`\gamma`, not below 0, or ``"p"``.
        temperature: :math:`\tau`, above 0.
    """

    @checked
    def __init__(self, *, gap: NonNegative | Literal["p"], temperature: Positive):
        super().__init__()
        self.gap = gap
        self.temperature = temperature

    def mixture(self, log_pi: Tensor, sample: Tensor, *, generator: Source | None) -> Mixture:
        """See the class."""
        top = log_pi.amax(-1, keepdim=True)
        gap = _gap_of_p(log_pi, sample) if self.gap == "p" else self.gap
        moved = torch.where(sample > 0, top, torch.minimum(log_pi, top - gap))
        return [(1 / self.temperature, (moved / self.temperature).softmax(-1))]


def _gap_of_p(log_pi: Tensor, sample: Tensor) -> Tensor:
    r"""Compute :math:`-\log(1 - \pi_D)/\pi_D`, shape ``(..., 1)``."""
    others = log_pi.masked_fill(sample > 0, -torch.inf)
    p = (log_pi.exp() * sample).sum(-1, keepdim=True).clamp_min(torch.finfo(log_pi.dtype).tiny)
    # Each way of writing log(1 - p) loses its digits at the other end.
    log_rest = torch.where(p < 0.5, torch.log1p(-p), others.logsumexp(-1, keepdim=True))
    return -log_rest / p
