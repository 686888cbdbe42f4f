"""Entropies of the soft assignment, against its definition over all codewords in float64."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from stelab.quantizers.entropy import codebook_entropy, entropy, joint, sample_entropy


def corners(d: int, v: float) -> Tensor:
    return torch.tensor(list(itertools.product([-v, v], repeat=d)), dtype=torch.float64)


def assignment(z: Tensor, v: float, tau: float) -> Tensor:
    """Return q(c|z), proportional to exp(-|z - c|^2 / tau), ``(samples, 2**d)``."""
    distances = torch.cdist(z, corners(z.shape[1], v), compute_mode="donot_use_mm_for_euclid_dist")
    return (-distances.square() / tau).softmax(-1)


def shannon(p: Tensor) -> Tensor:
    return -torch.xlogy(p, p).sum(-1)


@pytest.mark.parametrize(("v", "tau"), [(1.0, 1.0), (0.4, 0.1), (6**-0.5, 2.0)])
def test_they_are_those_of_all_codewords(v: float, tau: float) -> None:
    z = torch.randn(50, 6, dtype=torch.float64)
    q, logits = assignment(z, v, tau), 4 * v * z / tau
    assert torch.allclose(joint(logits), q, rtol=0, atol=1e-13)
    assert torch.allclose(sample_entropy(logits), shannon(q).mean(), rtol=0, atol=1e-12)
    whole = shannon(q.mean(0))
    for enough in (6, 9, 16):
        assert torch.allclose(codebook_entropy(logits, enough), whole, rtol=0, atol=1e-12)


def test_groups_add_up_as_if_they_were_independent() -> None:
    z = torch.randn(50, 6, dtype=torch.float64)
    z[:, 3:] = z[:, :3]  # they are not
    logits, bounds = 4 * z, []
    for size in (1, 2, 4, 6):
        groups = [shannon(assignment(g, 1.0, 1.0).mean(0)) for g in z.split(size, dim=1)]
        bounds.append(codebook_entropy(logits, size))
        assert torch.allclose(bounds[-1], torch.stack(groups).sum(), rtol=0, atol=1e-12)
    assert bounds[0] > bounds[1] > bounds[2] > bounds[3]


def test_sure_and_undecided_bits() -> None:
    undecided, sure = torch.zeros(4, 3), torch.full((4, 3), 1e4)
    assert torch.allclose(sample_entropy(undecided), torch.tensor(3 * math.log(2)))
    assert torch.allclose(codebook_entropy(undecided, 2), torch.tensor(3 * math.log(2)))
    assert sample_entropy(sure) == codebook_entropy(sure, 2) == 0
    opposite = torch.cat([sure, -sure])
    assert sample_entropy(opposite) == 0
    assert torch.allclose(codebook_entropy(opposite, 3), torch.tensor(math.log(2)))
    assert torch.allclose(codebook_entropy(opposite, 1), torch.tensor(3 * math.log(2)))


def test_gradients_are_finite_where_probabilities_vanish() -> None:
    logits = torch.tensor([[200.0, -1e19, 0.1]], requires_grad=True)
    (sample_entropy(logits) + codebook_entropy(logits, 3)).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_of_many_rare_codewords_it_keeps_its_slope() -> None:
    """Where 2**d outgrows 1e5 no probability may be cut off: all shares are below 1e-5."""
    uniform = torch.full((2**18,), 2.0**-18)
    assert torch.allclose(entropy(uniform), torch.tensor(18 * math.log(2)))
    logits = torch.full((3, 18), 0.1, requires_grad=True)
    mean = joint(logits).mean(0)
    assert mean.max() < 1e-5
    entropy(mean).backward()
    assert logits.grad is not None
    assert (logits.grad < 0).all()  # towards 0, where codewords are used evenly
