"""The exact gradient against closed forms and against differences of the expected loss."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from stelab.engine.errors import InputError
from stelab.estimators import ApproxSign
from stelab.lab.gradients import Cubic, Enumeration, Linear, MLPLoss, Problem, Quadratic, Toy
from stelab.lab.gradients.problems import Probability

PROBLEMS = [
    Linear(bits=5, spread=1.0, seed=3),
    Quadratic(bits=5, spread=1.0, seed=3),
    Cubic(bits=5, spread=1.0, seed=3),
    Toy(bits=5, spread=1.0, target=0.45, seed=3),
    MLPLoss(bits=5, hidden=7, spread=1.0, seed=3),
]


def expected_loss(problem: Problem, s: Tensor, probability: Probability) -> float:
    """Sum over codes in plain Python."""
    total = 0.0
    p = probability(s)[0].tolist()
    for code in product((0.0, 1.0), repeat=len(p)):
        q = 1.0
        for bit, chance in zip(code, p, strict=True):
            q *= chance if bit else 1 - chance
        total += q * problem(torch.tensor([code], dtype=torch.float64)).item()
    return total


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize(
    "probability", [torch.sigmoid, ApproxSign().probability], ids=["own", "tri"]
)
def test_the_gradient_is_the_slope_of_the_expected_loss(
    problem: Problem, probability: Probability
) -> None:
    gradient = Enumeration(problem).gradient(probability)
    for i in range(5):
        e = torch.zeros_like(problem.logits)
        e[0, i] = 1e-5
        up = expected_loss(problem, problem.logits + e, probability)
        down = expected_loss(problem, problem.logits - e, probability)
        assert gradient[0, i].item() == pytest.approx((up - down) / 2e-5, abs=1e-8)


def test_linear_in_closed_form() -> None:
    problem = Linear(bits=12, spread=2.0, seed=0)
    p = torch.sigmoid(problem.logits)
    gradient = Enumeration(problem).gradient(torch.sigmoid)
    assert torch.allclose(gradient, problem.w * p * (1 - p), rtol=0, atol=1e-12)


def test_quadratic_in_closed_form() -> None:
    problem = Quadratic(bits=9, spread=2.0, seed=0)
    p = torch.sigmoid(problem.logits)
    diagonal = problem.a.diagonal()
    slope = problem.w + 2 * p @ (problem.a - diagonal.diag()) + diagonal
    gradient = Enumeration(problem).gradient(torch.sigmoid)
    assert torch.allclose(gradient, slope * p * (1 - p), rtol=0, atol=1e-12)


def test_toy_in_closed_form() -> None:
    problem = Toy(bits=3, spread=2.0, target=0.45, seed=0)
    p = torch.sigmoid(problem.logits)
    gradient = Enumeration(problem).gradient(torch.sigmoid)
    assert torch.allclose(gradient, (1 - 0.9) * p * (1 - p) / 3, rtol=0, atol=1e-14)


def test_chunks_do_not_show() -> None:
    whole, parts = MLPLoss(bits=8, hidden=4, spread=1.0, seed=0), None
    parts = MLPLoss(bits=8, hidden=4, spread=1.0, seed=0)
    parts.rows = 7
    one, other = Enumeration(whole), Enumeration(parts)
    assert torch.allclose(one.losses, other.losses, rtol=0, atol=1e-14)
    difference = one.gradient(torch.sigmoid) - other.gradient(torch.sigmoid)
    assert difference.abs().max() < 1e-13


def test_a_gradient_of_zero_is_refused() -> None:
    far = Linear(bits=3, spread=1.0, seed=0)
    far.logits += 100
    with pytest.raises(InputError, match="exact gradient is 0"):
        Enumeration(far).gradient(ApproxSign().probability)


def test_seventeen_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="less than or equal to 16"):
        Linear(bits=17, spread=1.0, seed=0)
    with pytest.raises(ValueError, match="at most 16, got 17"):
        Problem(torch.zeros(1, 17))


def test_a_problem_depends_on_its_seed_only() -> None:
    torch.manual_seed(1)
    first = Cubic(bits=4, spread=1.0, seed=5)
    torch.manual_seed(2)
    second = Cubic(bits=4, spread=1.0, seed=5)
    codes = Enumeration(first).codes
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first(codes), second(codes))
    assert not torch.equal(first(codes), Cubic(bits=4, spread=1.0, seed=6)(codes))
