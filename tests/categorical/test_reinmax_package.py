"""The published package computes the same: https://pypi.org/project/reinmax, by its authors."""

from __future__ import annotations

import math

import pytest
import torch
from reinmax import reinmax  # type: ignore[import-untyped]

from stelab.categorical import ReinMax


@pytest.mark.parametrize("temperature", [1.0, 1.3, 2.0])
@pytest.mark.parametrize("scale", [0.3, 3.0])
@pytest.mark.parametrize("shape", [(64, 8), (16, 4, 24)])
def test_the_gradient_given_the_same_one_hot(
    temperature: float, scale: float, shape: tuple[int, ...]
) -> None:
    theirs = (scale * torch.randn(shape)).requires_grad_()
    ours = theirs.detach().clone().requires_grad_()
    g = torch.randn(shape)
    y_hard, _ = reinmax(theirs, temperature)
    y_hard.backward(g)
    sample = ReinMax(temperature=temperature)(ours, sample=y_hard.detach())
    sample.backward(g)
    assert torch.equal(sample, y_hard)
    assert theirs.grad is not None
    assert ours.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, rtol=0, atol=1e-6)


def test_the_law_of_the_one_hots_and_the_mean_gradient() -> None:
    n = 100_000
    theirs = torch.tensor([0.5, -1.0, 0.0, 1.5]).repeat(n, 1).requires_grad_()
    ours = theirs.detach().clone().requires_grad_()
    w = torch.tensor([1.0, -0.5, 2.0, 0.3])
    y_hard, y_soft = reinmax(theirs, 1.3)
    sample = ReinMax(temperature=1.3)(ours)
    for one_hot in (y_hard, sample):
        ((one_hot @ w) ** 3).sum().backward()
    assert theirs.grad is not None
    assert ours.grad is not None
    error = (2 * y_soft[0] * (1 - y_soft[0]) / n).sqrt()
    assert ((y_hard.mean(0) - sample.mean(0)).abs() < 4 * error).all()
    assert torch.allclose(ours[0].softmax(-1), y_soft[0], rtol=0, atol=1e-7)
    spread = (theirs.grad.var(0) + ours.grad.var(0)).sqrt() / math.sqrt(n)
    assert ((theirs.grad.mean(0) - ours.grad.mean(0)).abs() < 4 * spread).all()
