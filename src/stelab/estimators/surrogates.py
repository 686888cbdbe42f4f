r"""Surrogate derivatives: a hard step forward, the derivative of a soft one backward.

Forward, all of them: :math:`b = 1[s > 0]`. Backward, with :math:`g = \partial L/\partial b`:
:math:`\partial L/\partial s = g\,\varphi(s)`. Papers on {-1, 1} codes write a jump of 2; here the
jump is 1, so their surrogates stand halved.

The mass :math:`\int\varphi` is the jump that the surrogate believes in, 1 where not said
otherwise. Two surrogates of different mass compare learning rates before they compare shapes.

References:
    [Hubara2016] Hubara, Courbariaux, Soudry, El-Yaniv, Bengio (2016), "Binarized Neural
    Networks", arXiv:1602.02830.
    [Yin2019] Yin, Lyu, Zhang, Osher, Qi, Xin (2019), "Understanding Straight-Through Estimator in
    Training Activation Quantized Neural Nets", arXiv:1903.05662.
    [Bengio2013] Bengio, Léonard, Courville (2013), "Estimating or Propagating Gradients Through
    Stochastic Neurons for Conditional Computation", arXiv:1308.3432.
    [Liu2018] Liu, Wu, Luo, Yang, Liu, Cheng (2018), "Bi-Real Net", arXiv:1808.00278.
    [Darabi2018] Darabi, Belbahri, Courbariaux, Nia (2018), "BNN+: Improved Binary Network
    Training", arXiv:1812.11800.
    [Qin2020] Qin, Gong, Liu, Shen, Wei, Yu, Song (2020), "Forward and Backward Information
    Retention for Accurate Binary Neural Networks", arXiv:1909.10788.
"""

import torch
from torch import Tensor

from stelab.arguments import Flag, Positive, checked
from stelab.estimators.backward import through, wide
from stelab.estimators.base import Estimator, step
from stelab.randomness import Source


class Surrogate(Estimator):
    """What all surrogates share; a subclass defines `derivative`.

    Attributes:
        constant: Whether the derivative is piecewise constant.
    """

    constant = False

    def derivative(self, s: Tensor) -> Tensor:
        r"""Compute :math:`\varphi(s)`, for `s` in float32 or wider."""
        raise NotImplementedError(f"{type(self).__name__} must define derivative(s)")

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `Estimator.forward`; `generator` is ignored."""
        derivative = self.derivative(wide(s.detach()))
        return through(s, bits, derivative, constant=self.constant)


class ClippedInput(Surrogate):
    r"""The saturating straight-through estimator: gradients pass where the input is small.

    Forward: :math:`b = 1[s > 0]`. Backward: :math:`\varphi(s) = 1[|s| \le c]`.

    Often called "hardtanh", after the function whose derivative this is; the tutorial's clamping
    of the gradient is `HardtanhClip`. Mass :math:`2c`; with `normalize_mass`, divided by it,
    this is the density of noise uniform on :math:`[-c, c]`.

    Biased. One evaluation of the loss a step, no randomness. [Hubara2016]

    Args:
        bound: c, above 0.
        normalize_mass: Divide by the mass, so that it is 1.
    """

    constant = True

    @checked
    def __init__(self, *, bound: Positive, normalize_mass: Flag):
        super().__init__()
        self.bound = bound
        self.normalize_mass = normalize_mass

    def derivative(self, s: Tensor) -> Tensor:
        """See the class."""
        inside = (s.abs() <= self.bound).to(s.dtype)
        return inside / (2 * self.bound) if self.normalize_mass else inside

    def probability(self, s: Tensor) -> Tensor:
        """Return the distribution function of noise uniform on [-c, c]."""
        return (0.5 + s / (2 * self.bound)).clamp(0, 1)


class ReLU(Surrogate):
    r"""The derivative of the ReLU.

    Forward: :math:`b = 1[s > 0]`. Backward: :math:`\varphi(s) = 1[s > 0]`. Infinite mass.

    Biased. One evaluation of the loss a step, no randomness. [Yin2019]
    """

    constant = True

    def derivative(self, s: Tensor) -> Tensor:
        """See the class."""
        return step(s)


class ClippedReLU(Surrogate):
    r"""The derivative of the ReLU clipped at 1.

    Forward: :math:`b = 1[s > 0]`. Backward: :math:`\varphi(s) = 1[0 < s < 1]`.

    Biased. One evaluation of the loss a step, no randomness. [Yin2019]
    """

    constant = True

    def derivative(self, s: Tensor) -> Tensor:
        """See the class."""
        return ((s > 0) & (s < 1)).to(s.dtype)

    def probability(self, s: Tensor) -> Tensor:
        """Return the distribution function of noise uniform on [0, 1]."""
        return s.clamp(0, 1)


class SigmoidSlope(Surrogate):
    r"""The derivative of a sigmoid of slope k: the density of logistic noise.

    Forward: :math:`b = 1[s > 0]`.
    Backward: :math:`\varphi(s) = k\,\sigma(ks)\,(1 - \sigma(ks))`.

    Biased. One evaluation of the loss a step, no randomness. [Bengio2013]

    Args:
        slope: k, above 0.
    """

    @checked
    def __init__(self, *, slope: Positive):
        super().__init__()
        self.slope = slope

    def derivative(self, s: Tensor) -> Tensor:
        """See the class."""
        return self.slope * torch.sigmoid(self.slope * s) * torch.sigmoid(-self.slope * s)

    def probability(self, s: Tensor) -> Tensor:
        r"""Return :math:`\sigma(ks)`."""
        return torch.sigmoid(self.slope * s)


class TanhSlope(SigmoidSlope):
    r"""The derivative of :math:`(1 + \tanh ks)/2`, a sigmoid of slope 2k.

    Forward: :math:`b = 1[s > 0]`.
    Backward: :math:`\varphi(s) = \frac{k}{2}\,(1 - \tanh^2 ks)`.

    Biased. One evaluation of the loss a step, no randomness. [Qin2020] lets k grow, see
    `stelab.estimators.EDE`.

    Args:
        slope: k, above 0.
    """

    def derivative(self, s: Tensor) -> Tensor:
        """See the class."""
        return self.slope / 2 * (1 - torch.tanh(self.slope * s).square())

    def probability(self, s: Tensor) -> Tensor:
        r"""Return :math:`(1 + \tanh ks)/2`."""
        return torch.sigmoid(2 * self.slope * s)


class ApproxSign(Surrogate):
    r"""The derivative of a piecewise quadratic step: the density of triangular noise.

    Forward: :math:`b = 1[s > 0]`. Backward: :math:`\varphi(s) = \max(0, 1 - |s|)`.

    Biased. One evaluation of the loss a step, no randomness. [Liu2018], halved.
    """

    def derivative(self, s: Tensor) -> Tensor:
        """See the class."""
        return (1 - s.abs()).clamp_min(0)

    def probability(self, s: Tensor) -> Tensor:
        """Return the distribution function of triangular noise on [-1, 1]."""
        c = s.clamp(-1, 1)
        return 0.5 + c - c * c.abs() / 2


class SwishSign(Surrogate):
    r"""The derivative of a step made of swish functions; negative in its tails.

    Forward: :math:`b = 1[s > 0]`.
    Backward: :math:`\varphi(s) = \frac{\beta}{2}\,
    \frac{2 - \beta s\tanh(\beta s/2)}{1 + \cosh\beta s}`.

    Biased. One evaluation of the loss a step, no randomness. [Darabi2018], halved.

    Args:
        beta: Steepness, above 0.
    """

    @checked
    def __init__(self, *, beta: Positive):
        super().__init__()
        self.beta = beta

    def derivative(self, s: Tensor) -> Tensor:
        """See the class."""
        u = (self.beta * s).clamp(-1000, 1000)  # beyond, e is 0, and infinity times 0 is no number
        e = torch.exp(-u.abs())  # 1 + cosh u = (1 + e)^2 / 2e overflows nowhere
        return self.beta * (2 - u * torch.tanh(u / 2)) * e / (1 + e).square()
