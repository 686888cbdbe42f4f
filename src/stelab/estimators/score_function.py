r"""Score-function estimators: the loss, weighed with :math:`\partial\log q(b)/\partial s = b - p`.

Forward, all of them: :math:`b \sim \mathrm{Bernoulli}(p)`, :math:`p = \sigma(s)`. The estimate
needs no derivative of f, and is unbiased.

References:
    [Williams1992] Williams (1992), "Simple Statistical Gradient-Following Algorithms for
    Connectionist Reinforcement Learning".
    [Mnih2014] Mnih, Gregor (2014), "Neural Variational Inference and Learning in Belief
    Networks", arXiv:1402.0030.
    [Kool2019] Kool, van Hoof, Welling (2019), "Buy 4 REINFORCE Samples, Get a Baseline for Free!".
    [Yin2019] Yin, Zhou (2019), "ARM: Augment-REINFORCE-Merge Gradient for Stochastic Binary
    Networks", arXiv:1807.11143.
    [Dong2020] Dong, Mnih, Tucker (2020), "DisARM: An Antithetic Gradient Estimator for Binary
    Latent Variables", arXiv:2006.10680.
    [Dimitriev2021] Dimitriev, Zhou (2021), "ARMS: Antithetic-REINFORCE-Multi-Sample Gradient for
    Binary Variables", arXiv:2105.14141.
"""

import torch
from torch import Tensor

from stelab.arguments import AtLeastTwo, checked
from stelab.estimators.base import PerExampleLoss
from stelab.estimators.baselines import Baseline
from stelab.estimators.multi_evaluation import MultiEvaluation, column
from stelab.randomness import Source, uniform


class Reinforce(MultiEvaluation):
    r"""The score-function estimator, also called likelihood-ratio estimator.

    Forward: :math:`b \sim \mathrm{Bernoulli}(p)`. Backward: :math:`(f(b) - c)(b - p)`.

    Unbiased for every baseline c that does not look at b. One evaluation of the loss a step.
    [Williams1992], with a learned baseline [Mnih2014]

    Args:
        baseline: c.
    """

    def __init__(self, *, baseline: Baseline):
        super().__init__()
        self.baseline = baseline
        self.learning_rate = baseline.learning_rate

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Source | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        bits = self.sample(s, generator=generator)
        losses = f(bits)
        advantage = losses.detach() - self.baseline(s)
        if self.learns:
            self.baseline.learn(s, losses.detach())
        return losses, column(advantage, s) * (bits - torch.sigmoid(s))


def leave_one_out(losses: Tensor, bits: Tensor, s: Tensor) -> Tensor:
    r"""Compute :math:`\frac{1}{K-1}\sum_k (f_k - \bar f)(b_k - p)` from K losses and codes."""
    centred = losses - losses.mean(0)
    weights = centred.reshape(*centred.shape, *(1,) * (s.dim() - 1))
    return (weights * (bits - torch.sigmoid(s))).sum(0) / (len(losses) - 1)


class LeaveOneOut(MultiEvaluation):
    r"""REINFORCE with K draws, each the other's baseline (LOO, RLOO).

    Forward: :math:`b_k \sim \mathrm{Bernoulli}(p)`. Backward:
    :math:`\frac{1}{K-1}\sum_k (f(b_k) - \bar f)(b_k - p)`.

    Unbiased. K evaluations of the loss a step. [Kool2019]

    Args:
        samples: K, at least 2.
    """

    @checked
    def __init__(self, *, samples: AtLeastTwo):
        super().__init__()
        self.samples = samples

    def evaluations(self, bits: int) -> int:
        """Return K."""
        return self.samples

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Source | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        bits = torch.stack([self.sample(s, generator=generator) for _ in range(self.samples)])
        losses = torch.stack([f(b) for b in bits])
        return losses.mean(0), leave_one_out(losses.detach(), bits, s)


def antithetic(s: Tensor, generator: Source | None) -> tuple[Tensor, Tensor, Tensor]:
    """Draw u uniform on (0, 1), ``1[u < p]`` and its antithetic twin ``1[u > 1 - p]``."""
    u, p = uniform(s, generator=generator), torch.sigmoid(s)
    return u, (u < p).to(s.dtype), (1 - u < p).to(s.dtype)


class ARM(MultiEvaluation):
    r"""Augment, REINFORCE, merge: two antithetic codes from one uniform.

    Forward: :math:`b = 1[u < p]`, :math:`\tilde b = 1[u > 1 - p]`.
    Backward: :math:`(f(\tilde b) - f(b))(u - \tfrac12)`.

    Unbiased. Two evaluations of the loss a step. [Yin2019]
    """

    def evaluations(self, bits: int) -> int:
        """Return 2."""
        return 2

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Source | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        u, bits, twin = antithetic(s, generator)
        first, second = f(bits), f(twin)
        gradient = column((second - first).detach(), s) * (u - 0.5)
        return (first + second) / 2, gradient


class DisARM(MultiEvaluation):
    r"""ARM with its uniform integrated out; also published as U2G.

    Forward: :math:`b = 1[u < p]`, :math:`\tilde b = 1[u > 1 - p]`.
    Backward: :math:`\tfrac12\,(f(b) - f(\tilde b))(b - \tilde b)\,\sigma(|s|)`.

    Unbiased, of no more variance than `ARM`. Two evaluations of the loss a step. [Dong2020], and
    Yin, Ho, Yan, Qian, Zhou (2020), arXiv:2006.06448.
    """

    def evaluations(self, bits: int) -> int:
        """Return 2."""
        return 2

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Source | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        _, bits, twin = antithetic(s, generator)
        first, second = f(bits), f(twin)
        half = column((first - second).detach(), s) / 2
        return (first + second) / 2, half * (bits - twin) * torch.sigmoid(s.abs())


class ARMS(LeaveOneOut):
    r"""n codes, as antithetic as n codes can be, by a Dirichlet copula (ARMS-D).

    With exponentials e over n draws, :math:`d = e/\sum e` and :math:`\tilde u = (1-d)^{n-1}`,
    mirrored where :math:`p \ge \tfrac12`, every :math:`\tilde u_k` is uniform on (0, 1).

    Forward: :math:`b_k = 1[\tilde u_k < p]`. Backward: the leave-one-out estimate of the n codes
    times :math:`p(1-p)/(p - P(b_1 = b_2 = 1))`, which undoes their correlation.

    Unbiased; for n = 2 `DisARM`. n evaluations of the loss a step. [Dimitriev2021]

    Args:
        samples: n, at least 2.
    """

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Source | None
    ) -> tuple[Tensor, Tensor]:
        """See `MultiEvaluation.estimate`."""
        bits = self._copula(s, generator)
        losses = torch.stack([f(b) for b in bits])
        return losses.mean(0), leave_one_out(losses.detach(), bits, s) * self._decorrelation(s)

    def _copula(self, s: Tensor, generator: Source | None) -> Tensor:
        u = uniform(s.expand(self.samples, *s.shape), generator=generator)
        e = -u.log()
        marginal = (1 - e / e.sum(0)) ** (self.samples - 1)
        p = torch.sigmoid(s)
        return (torch.where(p < 0.5, marginal, 1 - marginal) < p).to(s.dtype)

    def _decorrelation(self, s: Tensor) -> Tensor:
        q = torch.sigmoid(-s.abs())  # the rarer value's probability: p and 1 - p are alike
        # P(both rare) / q, written so that q = 0 divides nothing by nothing.
        both = (2 - q ** (-1 / (self.samples - 1))).clamp_min(0) ** (self.samples - 1)
        return (1 - q) / (1 - both)
