r"""The estimator of least variance under a penalty on its bias.

Indices: :math:`e_x` is the one-hot of class x, :math:`J_i` row i of the Jacobian :math:`J(\pi)`.

References:
    [Hooper2026] Hooper, Shekhovtsov (2026), "Generalized and Optimal Straight-Through
    Estimators", AISTATS.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from stelab.annealing import Scheduled
from stelab.arguments import NonNegative, SolvablePenalty, checked
from stelab.categorical.base import (
    CategoricalEstimator,
    jacobian_product,
    log_probabilities,
    one_hot,
)
from stelab.estimators.backward import HardForward, once
from stelab.estimators.base import Exactness
from stelab.randomness import Source


class _MinimumVariance(HardForward):
    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        logits, sample, alpha, pi, ctx.grounded = inputs
        ctx.save_for_backward(logits, sample, alpha, pi)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        logits, sample, alpha, pi = ctx.saved_tensors
        sample, wide_g = sample.to(pi.dtype), g.to(pi.dtype)
        product = minimum_variance_product(pi, sample, wide_g, alpha, grounded=ctx.grounded)
        return once(product.to(g.dtype), logits), None, None, None, None


def minimum_variance_product(
    pi: Tensor, sample: Tensor, g: Tensor, alpha: Tensor, *, grounded: bool
) -> Tensor:
    r"""Compute :math:`\sum_i g_i S_D[i]` of `MVE`, with :math:`\alpha = 1/(1 + \tau)`.

    With :math:`\beta = 1 - \alpha`, :math:`n_{ix} = \alpha + \beta(\pi_i + \pi_x)` and the
    multipliers v of the constraint, setting the derivative of the objective to 0 gives

    .. math:: n_{iD}\,S_D[i] = (\alpha + \beta\pi_i)\,v_i - \beta\pi_i\,v_D + 1[i = D]\,\beta J_D,

    and the constraint :math:`v_i = \sum_j (A^{-1})_{ij}\,\rho_j J_j` with
    :math:`\rho_j = (\alpha + \beta\pi_j)/n_{jj}` and A as in `_constraint_matrix`. A is
    symmetric, so that one system with one right-hand side is solved, not K. At
    :math:`\alpha = 0` it is singular, and is `grounded`.
    """
    beta = 1 - alpha
    near = (alpha + beta * pi) * g
    far = beta * pi * g
    n = alpha + beta * (pi + (pi * sample).sum(-1, keepdim=True))
    right = near / n - sample * (far / n).sum(-1, keepdim=True)
    rho = (alpha + beta * pi) / (alpha + 2 * beta * pi)
    a = _constraint_matrix(pi, alpha)
    if grounded:
        a, right = _ground(a, right, pi)
    direct = (far * sample / n).sum(-1, keepdim=True) * (sample - pi)
    return jacobian_product(pi, rho * _solve(a, right)) + direct


def _constraint_matrix(pi: Tensor, alpha: Tensor) -> Tensor:
    r"""Compute A, a diagonal plus the Laplacian of a graph on the classes, shape ``(..., K, K)``.

    .. math:: A_{ij} = -\beta\pi_i\pi_j/n_{ij}, \qquad
       A_{ii} = \sum_x \alpha\pi_x/n_{ix} - \sum_{j \ne i} A_{ij}.
    """
    beta = 1 - alpha
    i, j = pi.unsqueeze(-1), pi.unsqueeze(-2)
    n = alpha + beta * (i + j)
    edges = beta * i * j / n
    edges = edges - torch.diag_embed(edges.diagonal(dim1=-2, dim2=-1))
    return torch.diag_embed((alpha * j / n + edges).sum(-1)) - edges


def _ground(a: Tensor, right: Tensor, pi: Tensor) -> tuple[Tensor, Tensor]:
    """Fix one entry of the solution at 0, where `a` is a Laplacian and leaves a constant open.

    The constant has no effect. The entry is that of the likeliest class, to which every other
    class has an edge as heavy as any of its own: the rest is well conditioned.
    """
    grounded = one_hot(pi.argmax(-1), pi)
    kept = 1 - grounded
    a = a * kept.unsqueeze(-1) * kept.unsqueeze(-2) + torch.diag_embed(grounded)
    return a, right * kept


def _solve(a: Tensor, right: Tensor) -> Tensor:
    """Solve ``a x = right``, scaled to a unit diagonal: probabilities differ by many orders."""
    scale = a.diagonal(dim1=-2, dim2=-1).rsqrt()
    scaled = a * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    solved = torch.linalg.solve_ex(scaled, (scale * right).unsqueeze(-1)).result
    return scale * solved.squeeze(-1)


class _MinimumVarianceEstimator(CategoricalEstimator):
    exactness: Exactness = "exact for linear"
    grounded = False  # whether alpha is 0

    def alpha(self, pi: Tensor) -> Tensor:
        r"""Return :math:`1/(1 + \tau)`, a scalar in the dtype of `pi`."""
        raise NotImplementedError

    def forward(
        self, logits: Tensor, *, sample: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `CategoricalEstimator.forward`."""
        sample = self.take(logits, sample, generator)
        log_pi = log_probabilities(logits.detach().double())
        pi = log_pi.clamp_min(-300).exp()  # products of two stay above 0
        return _MinimumVariance.apply(logits, sample, self.alpha(pi), pi, self.grounded)


class MVE(_MinimumVarianceEstimator):
    r"""The minimum-variance estimator, from straight-through to exact for quadratic losses.

    Forward: :math:`D \sim \mathrm{Categorical}(\pi)`. Backward: :math:`\sum_i g_i\,S_D[i]`, where
    the matrices :math:`S_x`, one for each class x, with rows :math:`S_x[i]`, minimize

    .. math:: \tfrac12\sum_x \pi_x\,\|S_x\|^2 + \tfrac\tau4\sum_{i,x}
       \bigl\|\pi_x S_x[i] + \pi_i S_i[x] - 1[i = x]\,J_i\bigr\|^2
       \quad\text{subject to}\quad \sum_x \pi_x S_x[i] = J_i \text{ for all } i.

    The first term is the second moment of the estimate for an isotropic g; the constraint makes
    linear losses exact; the norms penalized by :math:`\tau` vanish where quadratic losses are
    exact, too. At :math:`\tau = 0` this is `StraightThrough`. At ``"infinite"``,

    .. math:: S_D[D] = \tfrac12(D - \pi), \qquad
       S_D[j] = \frac{\pi_j}{\pi_D + \pi_j}\,C^\top(e_j - D), \qquad C = \tfrac12\,G^+ J(\pi),

    with G the Laplacian of the graph on the classes whose edges weigh
    :math:`\pi_i\pi_j/(\pi_i + \pi_j)`.

    Exact for linear losses, at ``"infinite"`` exact for quadratic losses. One evaluation of the
    loss a step, and a system of K equations in float64 for each one-hot, :math:`O(K^3)`.
    [Hooper2026]

    Args:
        temperature: :math:`\tau`, not below 0, or ``"infinite"``.
    """

    @checked
    def __init__(self, *, temperature: NonNegative | Literal["infinite"]):
        super().__init__()
        self.temperature = temperature
        alpha = 0.0 if temperature == "infinite" else 1 / (1 + temperature)
        self.grounded = alpha <= 1e-15  # rounding would leave a singular system after all
        self._alpha = 0.0 if self.grounded else alpha
        if self.grounded:
            self.exactness = "exact for quadratic"

    def alpha(self, pi: Tensor) -> Tensor:
        """See above."""
        return pi.new_full((), self._alpha)


class AnnealedMVE(Scheduled, _MinimumVarianceEstimator):
    r"""`MVE`, its temperature moved geometrically while training.

    Forward: :math:`D \sim \mathrm{Categorical}(\pi)`. Backward: that of `MVE` at
    :math:`\tau = \mathrm{start}\,(\mathrm{end}/\mathrm{start})^r`, r the share of training done.

    Exact for linear losses, and ever nearer to exact for quadratic ones where the temperature
    rises, at the cost of variance. One evaluation of the loss a step, and a system of K equations
    in float64 for each one-hot. [Hooper2026]

    Args:
        start: :math:`\tau` before the first step, above 0.
        end: :math:`\tau` after the last step, above 0, at most 1e12.
    """

    @checked
    def __init__(self, *, start: SolvablePenalty, end: SolvablePenalty):
        super().__init__(start=start, end=end)

    def alpha(self, pi: Tensor) -> Tensor:
        """See above."""
        return 1 / (1 + self.geometric().to(pi.dtype))
