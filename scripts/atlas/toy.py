r"""The law of an estimate on the smallest problem: one bit, :math:`f(b) = (b - 0.45)^2`."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from stelab.estimators import Estimator, MultiEvaluation
from stelab.lab.gradients import Enumeration, Measurement, Problem, measure

TARGET = 0.45
DRAWS = 4_000
FORWARD_DRAWS, AT_ONCE = 40_000, 100  # they cost little


class OneBit(Problem):
    """f at many logits at once, each an example of its own."""

    def __init__(self, s: Tensor):
        super().__init__(s[:, None])

    def forward(self, bits: Tensor) -> Tensor:
        """See `Problem.forward`."""
        return (bits - TARGET).square().sum(1)


def is_deterministic(estimator: Estimator) -> bool:
    """Tell whether both the forward value and the rule for its gradient draw nothing."""
    return estimator.randomness == "none" and not isinstance(estimator, MultiEvaluation)


def surrogate_derivative(estimator: Estimator, s: Tensor) -> Tensor:
    """Compute what a deterministic estimator makes of a gradient of 1 at its bits."""
    leaf = s.clone().requires_grad_()
    (slope,) = torch.autograd.grad(estimator(leaf).sum(), leaf)
    return slope


def gradient_law(estimator: Estimator, s: Tensor) -> Measurement:
    """Measure the estimate at every entry of `s` against the estimator's own smoothed problem."""
    enumeration = Enumeration(OneBit(s))
    exact = {"own": enumeration.gradient(estimator.probability)}
    return measure(estimator, enumeration, exact, samples=DRAWS, generator=_generator())["own"]


@torch.no_grad()
def mean_forward(estimator: Estimator, s: Tensor) -> Tensor:
    """Compute the mean of what the decoder sees in training."""
    if is_deterministic(estimator):
        return estimator(s)
    if not estimator.relaxed:
        return estimator.probability(s)
    generator, total = _generator(), torch.zeros_like(s)
    for _ in range(FORWARD_DRAWS // AT_ONCE):
        total += estimator(s.repeat(AT_ONCE, 1), generator=generator).sum(0)
    return total / FORWARD_DRAWS


def _generator() -> Generator:
    return torch.Generator().manual_seed(0)
