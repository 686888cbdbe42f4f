"""Surrogate derivatives: exact rows, the soft step they come from, and their mass."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stelab.estimators import (
    ApproxSign,
    ClippedInput,
    ClippedReLU,
    HardtanhClip,
    ReLU,
    SigmoidSlope,
    Surrogate,
    SwishSign,
    TanhSlope,
)

S = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0], dtype=torch.float64)
SIGMOID = [math.exp(-abs(s)) / (1 + math.exp(-abs(s))) ** 2 for s in S.tolist()]

ROWS = [
    (ClippedInput(bound=1.0, normalize_mass=False), [0, 1, 1, 1, 1, 1, 0]),
    (ClippedInput(bound=2.0, normalize_mass=True), [0.25] * 7),
    (ReLU(), [0, 0, 0, 0, 1, 1, 1]),
    (ClippedReLU(), [0, 0, 0, 0, 1, 0, 0]),
    (SigmoidSlope(slope=1.0), SIGMOID),
    (TanhSlope(slope=0.5), SIGMOID),
    (ApproxSign(), [0, 0, 0.5, 1, 0.5, 0, 0]),
]


def backward(estimator: Surrogate, s: Tensor, g: Tensor) -> Tensor:
    s = s.clone().requires_grad_()
    estimator(s).backward(g)
    assert s.grad is not None
    return s.grad


@pytest.mark.parametrize(("estimator", "expected"), ROWS, ids=lambda v: repr(v)[:40])
def test_backward_is_the_written_rule(estimator: Surrogate, expected: list[float]) -> None:
    g = torch.randn(7, dtype=torch.float64)
    rule = g * torch.tensor(expected, dtype=torch.float64)
    assert torch.allclose(backward(estimator, S, g), rule, rtol=1e-15, atol=1e-15)


def swish_step(s: Tensor, beta: float) -> Tensor:
    soft = torch.sigmoid(beta * s)
    return soft * (1 + beta * s * (1 - soft))


SOFT_STEPS: list[tuple[Surrogate, Callable[[Tensor], Tensor]]] = [
    (ClippedInput(bound=1.5, normalize_mass=True), lambda s: ((s + 1.5) / 3).clamp(0, 1)),
    (ClippedReLU(), lambda s: s.clamp(0, 1)),
    (SigmoidSlope(slope=3.0), lambda s: torch.sigmoid(3 * s)),
    (TanhSlope(slope=3.0), lambda s: (1 + torch.tanh(3 * s)) / 2),
    (
        ApproxSign(),
        lambda s: (1 + s.sign() * s.abs().clamp(max=1) * (2 - s.abs().clamp(max=1))) / 2,
    ),
    (SwishSign(beta=5.0), lambda s: swish_step(s, 5.0)),
]


@pytest.mark.parametrize(
    ("estimator", "soft_step"),
    SOFT_STEPS,
    ids=[repr(estimator)[:40] for estimator, _ in SOFT_STEPS],
)
def test_it_is_the_derivative_of_its_soft_step(
    estimator: Surrogate, soft_step: Callable[[Tensor], Tensor]
) -> None:
    s = (torch.rand(1000, dtype=torch.float64) * 8 - 4).requires_grad_()
    (expected,) = torch.autograd.grad(soft_step(s).sum(), s)
    assert torch.allclose(estimator.derivative(s.detach()), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("estimator", [row[0] for row in SOFT_STEPS], ids=repr)
def test_the_mass_is_the_jump(estimator: Surrogate) -> None:
    s = torch.linspace(-30, 30, 600_001, dtype=torch.float64)
    mass = torch.trapezoid(estimator.derivative(s), s).item()
    assert mass == pytest.approx(1, abs=1e-4)


def test_the_mass_of_an_unnormalized_clip_is_twice_its_bound() -> None:
    s = torch.linspace(-30, 30, 600_001, dtype=torch.float64)
    clip = ClippedInput(bound=1.5, normalize_mass=False)
    assert torch.trapezoid(clip.derivative(s), s).item() == pytest.approx(3, abs=1e-3)


def test_swish_sign_is_half_its_steepness_at_0_and_finite_far_out() -> None:
    estimator = SwishSign(beta=5.0)
    assert estimator.derivative(torch.zeros(())) == 2.5
    far = torch.tensor([-1e4, -100.0, 100.0, 1e4])
    assert estimator.derivative(far).tolist() == pytest.approx([0.0] * 4, abs=1e-30)


def test_the_two_hardtanhs_differ() -> None:
    s = torch.tensor([-2.0, -0.5, 0.5, 2.0])
    g = torch.tensor([3.0, 0.5, -0.5, -3.0])
    clipped_input = ClippedInput(bound=1.0, normalize_mass=False)
    assert backward(clipped_input, s, g).tolist() == [0.0, 0.5, -0.5, 0.0]
    leaf = s.clone().requires_grad_()
    HardtanhClip(bound=1.0)(leaf).backward(g)
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [1.0, 0.5, -0.5, -1.0]
