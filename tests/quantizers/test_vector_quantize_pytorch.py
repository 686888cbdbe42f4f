"""The public package computes the same: https://pypi.org/project/vector-quantize-pytorch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stelab import Binarizer
from stelab.estimators import Identity
from stelab.quantizers import (
    BinarySphericalQuantizer,
    FiniteScalarQuantizer,
    LookupFreeQuantizer,
    Quantizer,
)
from stelab.thresholds import FixedThreshold

SHAPES = [(40, 6), (5, 6, 4, 2), (3, 6, 2, 2, 3)]
CLAMP = 1e-5  # below it the package takes the logarithm of this instead of the probability's


def binarizer() -> Binarizer:
    return Binarizer(threshold=FixedThreshold(value=0.0), estimator=Identity())


def lfq(**arguments: Any) -> LookupFreeQuantizer:
    return LookupFreeQuantizer(binarizer=binarizer(), **arguments)


def bsq(**arguments: Any) -> BinarySphericalQuantizer:
    return BinarySphericalQuantizer(binarizer=binarizer(), **arguments)


def their_lfq(**arguments: Any) -> nn.Module:
    from vector_quantize_pytorch import LFQ

    double: nn.Module = LFQ(force_quantization_f32=False, **arguments).double()
    return double


def with_tokens(z: Tensor) -> Tensor:
    """Return (batch, d) as the package wants it: (batch, 1, d)."""
    return z.unsqueeze(1) if z.dim() == 2 else z


def require_equal(
    mine: tuple[Tensor, Tensor, Tensor], theirs: tuple[Tensor, Tensor, Tensor], z: Tensor
) -> None:
    """Compare codes, indices and penalties, and the gradients of codes and penalties."""
    g = torch.randn_like(z)
    for ours, other in zip(mine, theirs, strict=True):
        other = other.reshape(ours.shape)
        assert torch.allclose(ours, other, rtol=0, atol=1e-6)
    for ours, other in zip(_gradients(mine, g, z), _gradients(theirs, g, z), strict=True):
        assert torch.allclose(ours, other, rtol=0, atol=1e-6)
        assert ours.abs().max() > 1e-4


def _gradients(outputs: tuple[Tensor, Tensor, Tensor], g: Tensor, z: Tensor) -> list[Tensor]:
    codes, _, penalty = outputs
    (of_codes,) = torch.autograd.grad((codes.reshape(z.shape) * g).sum(), z, retain_graph=True)
    (of_penalty,) = torch.autograd.grad(penalty, z)
    return [of_codes, of_penalty]


def outputs(quantizer: Quantizer, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    codes = quantizer(z)
    return codes, quantizer.indices(codes), quantizer.penalty(z)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_lookup_free(shape: tuple[int, ...], scale: float) -> None:
    z = torch.empty(shape, dtype=torch.float64).uniform_(-1, 1).requires_grad_()
    package = their_lfq(
        dim=6, codebook_scale=scale, commitment_loss_weight=0.25, diversity_gamma=1.3
    )
    codes, indices, penalty = package(with_tokens(z), inv_temperature=0.3 / scale)
    quantizer = lfq(
        channels=6,
        scale=scale,
        temperature=scale / 0.3,
        entropy_weight=0.1,
        diversity=1.3,
        commitment_weight=0.25,
        group_size=6,
    )
    require_equal(outputs(quantizer, z), (codes, indices, penalty), z)
    assert torch.equal(
        quantizer.codes(indices.reshape(shape[0], *shape[2:])).double(), quantizer(z)
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_binary_spherical(shape: tuple[int, ...]) -> None:
    z = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    package = their_lfq(dim=6, spherical=True, commitment_loss_weight=0.25, diversity_gamma=0.7)
    codes, indices, penalty = package(with_tokens(z), inv_temperature=2.0)
    quantizer = bsq(
        channels=6,
        temperature=0.5,
        entropy_weight=0.1,
        diversity=0.7,
        commitment_weight=0.25,
        group_size=9,
    )
    require_equal(outputs(quantizer, z), (codes, indices, penalty), z)
    assert torch.allclose(
        quantizer.codes(indices.reshape(shape[0], *shape[2:])).double(), quantizer(z), atol=1e-7
    )


def test_groups_are_the_packages_codebooks_whose_mean_it_takes() -> None:
    z = torch.empty(5, 6, 2, 2, dtype=torch.float64).uniform_(-1, 1)
    package = their_lfq(codebook_size=8, num_codebooks=2)
    _, breakdown = package(z, inv_temperature=0.7, return_loss_breakdown=True)
    quantizer = lfq(
        channels=6,
        scale=1.0,
        temperature=1 / 0.7,
        entropy_weight=1.0,
        diversity=1.0,
        commitment_weight=0.0,
        group_size=3,
    )
    for mine, theirs in zip(quantizer.entropies(z), breakdown[:2], strict=True):
        assert torch.allclose(mine, 2 * theirs, rtol=0, atol=1e-6)


def test_at_its_default_temperature_they_differ_by_its_clamped_logarithm_alone() -> None:
    """Of each of 2**d probabilities that moves -p ln p by CLAMP / e at most."""
    z = torch.randn(64, 6, dtype=torch.float64)
    _, breakdown = their_lfq(dim=6)(z.unsqueeze(1), return_loss_breakdown=True)
    quantizer = lfq(
        channels=6,
        scale=1.0,
        temperature=0.01,
        entropy_weight=1.0,
        diversity=1.0,
        commitment_weight=0.0,
        group_size=6,
    )
    for mine, theirs in zip(quantizer.entropies(z), breakdown[:2], strict=True):
        assert mine > 0
        assert 0 <= mine - theirs + 1e-9 <= 2**6 * CLAMP / math.e + 2e-9


@pytest.mark.parametrize(
    "levels", [(8, 5, 5, 5), (7, 5, 5, 5, 5), (3, 4), (8, 8, 8, 6, 5)], ids=str
)
@pytest.mark.parametrize("positions", [(), (3, 4)], ids=str)
def test_finite_scalar(levels: tuple[int, ...], positions: tuple[int, ...]) -> None:
    from vector_quantize_pytorch import FSQ

    z = (2 * torch.randn(60, len(levels), *positions)).requires_grad_()
    package = FSQ(list(levels))
    codes, indices = package(with_tokens(z))
    quantizer = FiniteScalarQuantizer(binarizer=binarizer(), levels=levels)
    mine, theirs = quantizer(z), codes.reshape(z.shape)
    assert torch.allclose(mine, theirs, rtol=0, atol=1e-6)
    assert torch.equal(quantizer.indices(mine), indices.reshape(60, *positions).long())
    g = torch.randn(z.shape)
    ours, other = (torch.autograd.grad((c * g).sum(), z)[0] for c in (mine, theirs))
    assert torch.allclose(ours, other, rtol=0, atol=1e-6)
    assert ours.abs().max() > 0.1
    assert quantizer.codebook_size == package.codebook_size
    everything = torch.arange(package.codebook_size)
    assert torch.allclose(quantizer.codes(everything), package.implicit_codebook, atol=1e-7)
