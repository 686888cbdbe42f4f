"""Finite scalar quantization: exact numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from stelab import Binarizer
from stelab.estimators import Identity
from stelab.quantizers import FiniteScalarQuantizer
from stelab.thresholds import FixedThreshold


def quantizer(*levels: int, threshold: float = 0.0) -> FiniteScalarQuantizer:
    binarizer = Binarizer(threshold=FixedThreshold(value=threshold), estimator=Identity())
    return FiniteScalarQuantizer(binarizer=binarizer, levels=levels)


def test_levels_of_an_odd_and_an_even_channel() -> None:
    z = torch.linspace(-4, 4, 2001).repeat(2, 1).T
    codes = quantizer(5, 4)(z)
    assert codes[:, 0].unique().tolist() == [-1, -0.5, 0, 0.5, 1]
    assert codes[:, 1].unique().tolist() == [-1, -0.5, 0, 0.5]
    assert codes[1000].tolist() == [0, 0]  # z = 0 is the code 0
    assert (codes.diff(dim=0) >= 0).all()


def test_the_borders_are_where_the_bounded_value_is_halfway() -> None:
    """At L = 5, h tanh(z) = 1/2 with h = 2.002."""
    border = math.atanh(0.5 / 2.002)
    z = torch.tensor([[border - 1e-5], [border + 1e-5], [-border - 1e-5]])
    assert quantizer(5)(z).tolist() == [[0], [0.5], [-0.5]]
    up = math.atanh(0.75 / 2.002)  # a threshold of a quarter of a level moves it by as much
    z = torch.tensor([[border + 1e-5], [up - 1e-5], [up + 1e-5]])
    assert quantizer(5, threshold=0.25)(z).tolist() == [[0], [0], [0.5]]


def test_gradient_and_second_derivative_are_those_of_the_bounded_value() -> None:
    z = torch.randn(20, 2, dtype=torch.float64, requires_grad=True)
    layer = quantizer(5, 8)
    half = torch.tensor([2.002, 3.5035], dtype=torch.float64)
    shift = torch.tensor([0.0, math.atanh(0.5 / 3.5035)], dtype=torch.float64)
    width = torch.tensor([2.0, 4.0], dtype=torch.float64)
    g = torch.randn(20, 2, dtype=torch.float64)
    (first,) = torch.autograd.grad((layer(z) * g).sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), z)
    t = torch.tanh(z.detach() + shift)
    slope = g * half / width * (1 - t.square())
    assert torch.allclose(first, slope, rtol=0, atol=1e-12)
    assert torch.allclose(second, -2 * t * slope, rtol=0, atol=1e-12)


def test_the_outermost_levels_hold_whatever_the_threshold() -> None:
    z = torch.tensor([[-50.0, 50.0]])
    for threshold in (-3.0, -0.6, 0.6, 3.0):
        digits = quantizer(5, 4, threshold=threshold)
        found = digits.digits(digits(z))
        assert (found >= 0).all()
        assert (found < torch.tensor([5, 4])).all()
    assert quantizer(5, 4)(z).tolist() == [[-1, 0.5]]


def test_indices_count_the_first_channel_fastest() -> None:
    layer = quantizer(3, 4)
    assert layer.codebook_size == 12
    assert layer.place_values() == [1, 3]
    codes = layer.codes(torch.tensor([0, 1, 3, 11]))
    assert codes.tolist() == [[-1, -1], [0, -1], [-1, -0.5], [1, 0.5]]


def test_there_is_no_penalty() -> None:
    z = torch.randn(4, 2, dtype=torch.float16)
    penalty = quantizer(5, 5).penalty(z)
    assert penalty.dtype == torch.float32
    assert penalty.shape == ()
    assert penalty == 0


@pytest.mark.parametrize("levels", [[], [8, 2], [1], [5.0], [True], "55", 5, None], ids=str)
def test_levels_are_checked(levels: Any) -> None:
    binarizer = Binarizer(threshold=FixedThreshold(value=0.0), estimator=Identity())
    with pytest.raises(ValueError, match="levels must be"):
        FiniteScalarQuantizer(binarizer=binarizer, levels=levels)
