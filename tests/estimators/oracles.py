"""What the tests measure estimators against: losses of known kind, enumeration, quadrature."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from stelab.estimators import Bernoulli, Estimator, PerExampleLoss

Probability = Callable[[Tensor], Tensor]


def codes(bits: int) -> Tensor:
    """All codes, one a row."""
    return torch.tensor([*itertools.product((0.0, 1.0), repeat=bits)], dtype=torch.float64)


THETA = torch.tensor([-1.2, -0.3, 0.1, 0.7, 1.6], dtype=torch.float64)
BITS = len(THETA)
CODES = codes(BITS)


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers that belong to this seed and shape."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


_LINEAR = normal(BITS, seed=1)
_QUADRATIC = normal(BITS, BITS, seed=2)
_HIDDEN, _OUTPUT = normal(BITS, 8, seed=3), normal(8, seed=4)


def linear(b: Tensor) -> Tensor:
    return b @ _LINEAR + 0.5


def quadratic(b: Tensor) -> Tensor:
    """Of all products, those of a bit with itself included: its slope differs at 0 and 1."""
    return linear(b) + ((b @ _QUADRATIC) * b).sum(1)


def cubic(b: Tensor) -> Tensor:
    return quadratic(b) + (b @ _LINEAR) ** 3


def mlp(b: Tensor) -> Tensor:
    return torch.tanh(b @ _HIDDEN - 0.5) @ _OUTPUT + 1


LOSSES: dict[str, PerExampleLoss] = {f.__name__: f for f in (linear, quadratic, cubic, mlp)}


def law(p: Tensor) -> Tensor:
    """The probability of each of the codes of bits with probabilities `p`."""
    p = p.flatten()
    return torch.where(codes(len(p)) == 1, p, 1 - p).prod(1)


def true_gradient(
    f: PerExampleLoss, s: Tensor = THETA, probability: Probability = torch.sigmoid
) -> Tensor:
    """The gradient of E f(b), by enumeration."""
    leaf = s.clone().requires_grad_()
    losses = f(codes(s.numel()).reshape(-1, *s.shape))
    (law(probability(leaf)) @ losses).backward()
    assert leaf.grad is not None
    return leaf.grad


def backward(estimator: Estimator, s: Tensor, g: Tensor, bits: Tensor | None = None) -> Tensor:
    """What comes back for `s` when `g` arrives at the bits."""
    leaf = s.clone().requires_grad_()
    estimator(leaf, bits=bits).backward(g)
    assert leaf.grad is not None
    assert leaf.grad.dtype == s.dtype
    return leaf.grad


def passed_back(estimator: Estimator, s: Tensor, bits: Tensor, f: PerExampleLoss) -> Tensor:
    """One row of gradient for each of the given codes."""
    leaf = s.expand_as(bits).clone().requires_grad_()
    f(estimator(leaf, bits=bits)).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def moments(rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the variance of rows that come with these probabilities."""
    mean = weights @ rows
    return mean, weights @ (rows - mean).square()


def enumerated(estimator: Estimator, f: PerExampleLoss, s: Tensor = THETA) -> tuple[Tensor, Tensor]:
    """The exact mean and variance of an estimate whose only randomness is the bits."""
    rows = passed_back(estimator, s, CODES, f)
    return moments(rows, law(estimator.probability(s).detach()))


def row_gradients(
    estimator: Estimator, f: PerExampleLoss, s: Tensor, *, generator: Generator | None = None
) -> Tensor:
    """What `loss` estimates for each row of `s`."""
    leaf = s.clone().requires_grad_()
    estimator.loss(leaf, f, generator=generator).backward()
    assert leaf.grad is not None
    return leaf.grad * len(s)


def estimates(
    estimator: Estimator, f: PerExampleLoss, s: Tensor = THETA, *, n: int, seed: int = 0
) -> Tensor:
    """Estimates of the same gradient in n independent rows."""
    generator = torch.Generator().manual_seed(seed)
    return row_gradients(estimator, f, s.expand(n, *s.shape), generator=generator)


def over_codes(
    monkeypatch: pytest.MonkeyPatch,
    estimator: Bernoulli,
    f: PerExampleLoss,
    s: Tensor = THETA,
    *,
    draws: int = 1,
) -> tuple[Tensor, Tensor]:
    """The exact mean and variance of an estimate that draws so many codes and nothing else."""
    q = law(torch.sigmoid(s))
    chosen = torch.cartesian_prod(*[torch.arange(len(q))] * draws).reshape(-1, draws)
    queue = iter(codes(len(s))[chosen].unbind(1))
    monkeypatch.setattr(estimator, "sample", lambda s, generator: next(queue))
    rows = row_gradients(estimator, f, s.expand(len(chosen), -1))
    return moments(rows, q[chosen].prod(1))


def z_scores(rows: Tensor, expected: Tensor) -> Tensor:
    """How many standard errors the mean of `rows` is from where it should be."""
    return (rows.mean(0) - expected) * len(rows) ** 0.5 / rows.std(0)


def grid(n: int) -> Tensor:
    """The midpoints of n cells of (0, 1): a uniform that integrates instead of being drawn."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def forge(monkeypatch: pytest.MonkeyPatch, module: str, *draws: Tensor) -> None:
    """Let an estimators' module draw these uniforms, one after the other."""
    queue = iter(draws)
    monkeypatch.setattr(f"stelab.estimators.{module}.uniform", lambda s, generator: next(queue))
