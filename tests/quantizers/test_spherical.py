"""Binary spherical quantization: exact numbers, directions, and the paper's formulas."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from stelab import Binarizer
from stelab.estimators import HardtanhClip, Identity
from stelab.quantizers import BinarySphericalQuantizer
from stelab.quantizers.spherical import direction
from stelab.thresholds import FixedThreshold


def quantizer(channels: int, *, group_size: int = 9) -> BinarySphericalQuantizer:
    return BinarySphericalQuantizer(
        binarizer=Binarizer(threshold=FixedThreshold(value=0.0), estimator=Identity()),
        channels=channels,
        temperature=0.25,
        entropy_weight=0.3,
        diversity=0.8,
        commitment_weight=0.2,
        group_size=group_size,
    )


def test_codes_are_on_the_sphere_and_the_gradient_is_the_projections() -> None:
    z = torch.tensor([[3.0, 0.0, -4.0, 0.0]], dtype=torch.float64, requires_grad=True)
    layer = quantizer(4)
    codes = layer(z)
    assert codes.tolist() == [[0.5, -0.5, -0.5, -0.5]]
    assert layer.indices(codes).tolist() == [8]
    assert torch.allclose(layer.centre(z), z / 5, rtol=0, atol=1e-15)  # sqrt(4) / 2 = 1
    g = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    codes.backward(g)
    u = z.detach() / 5
    assert z.grad is not None
    assert torch.allclose(z.grad, (g - u * (u * g).sum()) / 5, rtol=0, atol=1e-14)


def papers(z: Tensor, tau: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return codes, E H(q) - 0.8 H(E q) and the commitment of rows, by their definitions."""
    d = z.shape[1]
    u = z / z.square().sum(1, keepdim=True).sqrt()
    words = torch.tensor(list(itertools.product([-1, 1], repeat=d)), dtype=z.dtype) / d**0.5
    squares = (u.unsqueeze(1) - words).square().sum(-1)
    q = (-squares / tau).softmax(-1)
    codes = words[squares.argmin(1)]
    mean = q.mean(0)
    entropies = -(q * q.log()).sum(1).mean() + 0.8 * (mean * mean.log()).sum()
    return codes, entropies, (u - codes).square().mean()


def test_it_is_the_papers_definition() -> None:
    z = torch.randn(30, 5, 2, dtype=torch.float64, requires_grad=True)
    layer = quantizer(5)
    codes, entropies, commitment = papers(z.movedim(1, 2).flatten(0, 1), 0.25)
    assert torch.allclose(layer(z).movedim(1, 2).flatten(0, 1), codes, rtol=0, atol=1e-15)
    expected = 0.3 * entropies + 0.2 * commitment
    assert torch.allclose(layer.penalty(z), expected, rtol=0, atol=1e-12)
    (mine,) = torch.autograd.grad(layer.penalty(z), z)
    (theirs,) = torch.autograd.grad(expected, z)
    assert torch.allclose(mine, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1e-11, 1e-6, 1.0, 1e18])
def test_the_length_of_z_has_no_effect(size: float) -> None:
    z = torch.randn(10, 6, dtype=torch.float64)
    scaled = (size * z).float().requires_grad_()
    assert torch.allclose(direction(scaled), direction(z).float(), rtol=0, atol=1e-6)
    assert torch.equal(quantizer(6)(scaled), quantizer(6)(z).float())
    g = torch.randn(10, 6)
    (found,) = torch.autograd.grad((quantizer(6)(scaled) * g).sum(), scaled)
    u = direction(z)
    expected = (g - u * (u * g).sum(1, keepdim=True)) / z.norm(dim=1, keepdim=True)
    assert torch.allclose(size * found.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [0.0, 1e-13])
def test_without_a_length_there_is_no_direction_and_no_gradient(
    dtype: torch.dtype, size: float
) -> None:
    z = torch.tensor([[size, -size, 0.0], [1.0, 2.0, -2.0]], dtype=dtype, requires_grad=True)
    layer = quantizer(3)
    codes = layer(z)
    assert layer.indices(codes).tolist() == [0, 6]
    (found,) = torch.autograd.grad((codes * torch.tensor([1.0, -2.0, 3.0])).sum(), z)
    (of_penalty,) = torch.autograd.grad(layer.penalty(z), z)
    for gradient in (found, of_penalty):
        assert gradient[0].tolist() == [0, 0, 0]
        assert gradient.isfinite().all()
        assert gradient[1].abs().max() > 0


def test_second_derivatives_hold_the_curvature_of_the_sphere() -> None:
    layer = quantizer(4)
    z = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    g = torch.randn(3, 4, dtype=torch.float64)
    (first,) = torch.autograd.grad((layer(z) * g).sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), z)
    smooth = z / z.norm(dim=1, keepdim=True)
    (first,) = torch.autograd.grad((smooth * g).sum(), z, create_graph=True)
    (expected,) = torch.autograd.grad(first.square().sum(), z)
    assert expected.abs().max() > 0.1
    assert torch.allclose(second, expected, rtol=0, atol=1e-10)


def test_an_estimators_rule_is_in_distances_between_codewords() -> None:
    """Of what arrives at the bit, 2 / sqrt(d) times the gradient of the code, all is clamped."""
    layer = quantizer(4)
    layer.binarizer.estimator = HardtanhClip(bound=0.1)
    u = torch.tensor([[1.0, 0.0, 0.0, 0.0]], requires_grad=True)
    layer(u).backward(torch.tensor([[5.0, 5.0, -5.0, 0.05]]))
    assert u.grad is not None
    assert torch.allclose(u.grad, torch.tensor([[0.0, 0.1, -0.1, 0.05]]), rtol=0, atol=1e-7)
