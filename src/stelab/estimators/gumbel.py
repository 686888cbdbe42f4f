r"""Relaxed bits: a sigmoid of the logit plus logistic noise (the difference of two Gumbels).

With :math:`z = s + \log u - \log(1 - u)`, :math:`u` uniform on (0, 1), the bit is
:math:`b = 1[z > 0] \sim \mathrm{Bernoulli}(\sigma(s))`. Here the bit comes first and z is drawn
given the bit, which is the same law: bits can be enumerated, and z can be drawn again.

References:
    [Jang2017] Jang, Gu, Poole (2017), "Categorical Reparameterization with Gumbel-Softmax",
    arXiv:1611.01144.
    [Maddison2017] Maddison, Mnih, Teh (2017), "The Concrete Distribution", arXiv:1611.00712.
    [Paulus2021] Paulus, Maddison, Krause (2021), "Rao-Blackwellizing the Straight-Through
    Gumbel-Softmax Gradient Estimator", arXiv:2010.04838.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from stelab.arguments import Count, Positive, checked
from stelab.estimators.backward import known, through
from stelab.estimators.bernoulli import Bernoulli
from stelab.randomness import Source, uniform


def noisy_logit(s: Tensor, bits: Tensor, v: Tensor) -> Tensor:
    r"""Compute z given the bit from `v` uniform on (0, 1), differentiable with respect to `s`.

    .. math:: z = \pm\log\Bigl(1 + \frac{v}{1 - v}\,\bigl(1 + e^{\pm s}\bigr)\Bigr),
       \qquad + \text{ where } b = 1,\; - \text{ where } b = 0,

    so that :math:`1[z > 0] = b`. Written with softplus, which overflows nowhere.
    """
    sign = 2 * bits - 1
    return sign * softplus(torch.logit(v) + softplus(sign * s))


class GumbelRao(Bernoulli):
    r"""Gumbel-sigmoid straight-through, averaged over k draws of the noise given the bit.

    Forward: :math:`b \sim \mathrm{Bernoulli}(\sigma(s))`. Backward:
    :math:`g\,\frac1k\sum_j \sigma'(z_j/\tau)/\tau` with :math:`z_j` drawn given b; no gradient
    flows through that draw.

    Biased, the same mean for every k, the less the smaller :math:`\tau`; variance falls with k
    and grows as :math:`\tau` falls. One evaluation of the loss a step. [Paulus2021]

    Args:
        samples: k, at least 1.
        temperature: :math:`\tau`, above 0.
    """

    randomness = "noise"

    @checked
    def __init__(self, *, samples: Count, temperature: Positive):
        super().__init__()
        self.samples = samples
        self.temperature = temperature

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `Estimator.forward`; the noise is drawn for given bits, too."""
        bits = self.take(s, bits, generator)
        return through(s, bits, self._slope(known(s.detach()), bits, generator))

    def _slope(self, s: Tensor, bits: Tensor, generator: Source | None) -> Tensor:
        total = torch.zeros_like(s)
        for _ in range(self.samples):  # one after the other: k times the code would not fit
            v = uniform(s, generator=generator)
            y = torch.sigmoid(noisy_logit(s, bits, v) / self.temperature)
            total = total + y * (1 - y)
        return total / (self.samples * self.temperature)


class GumbelStraightThrough(GumbelRao):
    r"""The straight-through Gumbel-sigmoid: hard forward, the relaxation's slope backward.

    Forward: :math:`b = 1[z > 0]`. Backward: :math:`g\,\sigma'(z/\tau)/\tau`.

    `GumbelRao` with one draw. Biased, the less the smaller :math:`\tau`, at the cost of variance.
    One evaluation of the loss a step. [Jang2017]

    Args:
        temperature: :math:`\tau`, above 0.
    """

    @checked
    def __init__(self, *, temperature: Positive):
        super().__init__(samples=1, temperature=temperature)


class BinaryConcrete(Bernoulli):
    r"""The relaxation itself: soft in training, bits in evaluation.

    Forward: :math:`y = \sigma(z/\tau)`; in evaluation mode :math:`b = 1[s > 0]`.
    Backward: :math:`g\,y(1 - y)/\tau`, the derivative of what was computed.

    Biased as an estimate for bits: training and evaluation see different codes. One evaluation of
    the loss a step. [Maddison2017]

    Args:
        temperature: :math:`\tau`, above 0.
    """

    randomness = "noise"
    relaxed = True

    @checked
    def __init__(self, *, temperature: Positive):
        super().__init__()
        self.temperature = temperature

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `Estimator.forward`; in training, y is drawn given the bits."""
        bits = self.take(s, bits, generator)
        z = noisy_logit(known(s.detach()), bits, uniform(s, generator=generator))
        y = torch.sigmoid(z / self.temperature)
        slope = y * (1 - y) / self.temperature
        return through(s, y if self.training else bits, slope)
