"""Lookup-free quantization: exact numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from stelab import Binarizer
from stelab.estimators import Identity
from stelab.quantizers import LookupFreeQuantizer
from stelab.thresholds import FixedThreshold


def quantizer(threshold: float = 0.0, **arguments: Any) -> LookupFreeQuantizer:
    defaults: dict[str, Any] = {
        "binarizer": Binarizer(threshold=FixedThreshold(value=threshold), estimator=Identity()),
        "channels": 3,
        "scale": 2.0,
        "temperature": 1.0,
        "entropy_weight": 0.0,
        "diversity": 1.0,
        "commitment_weight": 0.0,
        "group_size": 3,
    }
    return LookupFreeQuantizer(**{**defaults, **arguments})


def test_codes_indices_and_the_straight_through_gradient() -> None:
    layer = quantizer()
    z = torch.tensor([[-0.5, 0.0, 3.0], [1e-30, 7.0, -1e-30]], requires_grad=True)
    codes = layer(z)
    assert codes.tolist() == [[-2, -2, 2], [2, 2, -2]]
    assert layer.indices(codes).tolist() == [1, 6]
    assert layer.centre(z).tolist() == (z / 4).tolist()
    g = torch.tensor([[1.0, 2.0, -3.0], [0.5, 4.0, 0.1]])
    codes.backward(g)
    assert z.grad is not None
    assert torch.equal(z.grad, g)


def test_a_threshold_is_in_distances_between_codewords() -> None:
    """Codewords are 4 apart, so the border is at 0.25 * 4 = 1, where the bit is 0."""
    codes = quantizer(threshold=0.25)(torch.tensor([[0.9, 1.0, 1.1]]))
    assert codes.tolist() == [[-2, -2, 2]]


def test_the_second_derivative_is_that_of_the_loss() -> None:
    z = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    codes = quantizer()(z)
    (first,) = torch.autograd.grad(codes.pow(3).sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), z)
    assert torch.allclose(second, 6 * codes.detach(), rtol=0, atol=1e-12)


def test_the_penalty_is_its_weighted_terms() -> None:
    """tau = 16 v ln 3 makes q = 3/4 at z = 4 and 1/2 at 0."""
    layer = quantizer(
        channels=2,
        scale=1.0,
        temperature=16 / math.log(3),
        entropy_weight=0.5,
        diversity=2.0,
        commitment_weight=0.25,
        group_size=2,
    )
    z = torch.tensor([[4.0, 0.0], [-4.0, 0.0]], dtype=torch.float64)
    h = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    of_a_sample, of_the_codebook = layer.entropies(z)
    assert of_a_sample.item() == pytest.approx(h + math.log(2), abs=1e-12)
    assert of_the_codebook.item() == pytest.approx(2 * math.log(2), abs=1e-12)
    assert layer.commitment(z).item() == (9 + 1 + 9 + 1) / 4
    expected = 0.5 * (h + math.log(2) - 2 * 2 * math.log(2)) + 0.25 * 5
    assert layer.penalty(z).item() == pytest.approx(expected, abs=1e-12)


def test_commitment_pulls_to_the_nearest_codeword() -> None:
    z = torch.tensor([[0.5, -3.0, 2.0]], requires_grad=True)
    quantizer().commitment(z).backward()
    assert z.grad is not None
    assert z.grad.tolist() == [pytest.approx([2 * (0.5 - 2) / 3, 2 * (-3 + 2) / 3, 0])]


def test_descending_the_penalty_makes_codes_sure_and_the_codebook_used() -> None:
    layer = quantizer(scale=1.0, temperature=1.0, entropy_weight=1.0)
    z = (0.5 + 0.1 * torch.randn(64, 3)).requires_grad_()  # all one code
    assert layer.indices(layer(z)).unique().numel() == 1
    optimizer = torch.optim.Adam([z], lr=0.05)
    for _ in range(120):
        optimizer.zero_grad()
        layer.penalty(z).backward()
        optimizer.step()
    of_a_sample, of_the_codebook = layer.entropies(z)
    assert of_a_sample < 0.1
    assert of_the_codebook > 2.5 * math.log(2)
    assert layer.indices(layer(z)).unique().numel() == 8


def test_codes_too_long_for_an_index() -> None:
    layer = quantizer(channels=63, group_size=1)
    z = torch.ones(1, 63)
    assert layer.indices(layer(z)).tolist() == [2**63 - 1]
    assert torch.equal(layer.codes(torch.tensor([2**63 - 1])), layer(z))
    long = quantizer(channels=100, group_size=16)
    codes = long(torch.randn(2, 100))
    assert codes.shape == (2, 100)
    assert long.penalty(codes).isfinite()
    for call in (lambda: long.indices(codes), lambda: long.codes(torch.tensor([0]))):
        with pytest.raises(ValueError, match=f"64 bits, got a codebook of {2**100} codewords"):
            call()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "channels must be greater than or equal to 1, got 0"),
        ({"scale": 0.0}, "scale must be greater than 0"),
        ({"temperature": 0}, "temperature must be greater than 0"),
        ({"diversity": -1.0}, "diversity must be greater than or equal to 0"),
        ({"group_size": 17}, "group_size must be less than or equal to 16"),
        ({"entropy_weight": math.nan}, "entropy_weight must be a finite number"),
        ({"binarizer": Identity()}, "binarizer must be of Binarizer"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantizer(**arguments)
