"""Exact values of the straight-through family."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stelab.estimators import Estimator, HardtanhClip, Identity, ZeroGradient, step

S = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0])
G = torch.tensor([3.0, 0.5, -1.5, -0.5, -3.0])

ROWS = [
    (Identity(), [3.0, 0.5, -1.5, -0.5, -3.0]),
    (HardtanhClip(bound=1.0), [1.0, 0.5, -1.0, -0.5, -1.0]),
    (HardtanhClip(bound=0.25), [0.25, 0.25, -0.25, -0.25, -0.25]),
    (ZeroGradient(), [0.0, 0.0, 0.0, 0.0, 0.0]),
]


def backward(estimator: Estimator, s: Tensor, g: Tensor, bits: Tensor | None = None) -> Tensor:
    s = s.clone().requires_grad_()
    estimator(s, bits=bits).backward(g)
    assert s.grad is not None  # zeros, never an absent gradient
    return s.grad


@pytest.mark.parametrize(("estimator", "expected"), ROWS, ids=lambda v: repr(v))
def test_backward_is_the_written_rule(estimator: Estimator, expected: list[float]) -> None:
    assert torch.equal(backward(estimator, S, G), torch.tensor(expected))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_backward_with_random_upstream_gradient(dtype: torch.dtype) -> None:
    s = torch.randn(7, 5, dtype=dtype)
    s[0, 0] = 0.0
    g = 3 * torch.randn(7, 5, dtype=dtype)
    assert torch.equal(backward(Identity(), s, g), g)
    assert torch.equal(backward(HardtanhClip(bound=0.5), s, g), g.clamp(-0.5, 0.5))
    assert torch.equal(backward(ZeroGradient(), s, g), torch.zeros_like(g))


def test_step_at_the_corners() -> None:
    inf, nan = float("inf"), float("nan")
    s = torch.tensor([0.0, -0.0, 1e-45, -1e-45, inf, -inf, nan])
    assert step(s).tolist() == [0, 0, 1, 0, 1, 0, 0]


@pytest.mark.parametrize("estimator", [row[0] for row in ROWS], ids=repr)
def test_given_bits_are_taken_and_the_gradient_rule_stays(estimator: Estimator) -> None:
    given = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])  # not step(S)
    assert torch.equal(estimator(S, bits=given), given)
    assert torch.equal(backward(estimator, S, G, given), backward(estimator, S, G))


def test_clip_bitwise_equals_identity_within_the_bound() -> None:
    g = torch.rand(1000) * 2 - 1
    s = torch.randn(1000)
    clip = HardtanhClip(bound=1.0)
    assert torch.equal(backward(clip, s, g), backward(Identity(), s, g))
    assert not clip.clipped(g).any()


def test_clipped_marks_what_backward_clamps() -> None:
    clip = HardtanhClip(bound=1.0)
    assert torch.equal(clip.clipped(G), backward(clip, S, G) != G)
    assert not Identity().clipped(G).any()


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan"), float("inf"), "1"])
def test_a_bad_bound_is_refused(bound: object) -> None:
    with pytest.raises(ValueError, match="bound"):
        HardtanhClip(bound=bound)  # type: ignore[arg-type]


def test_doubled_backward_gives_second_derivatives() -> None:
    s = S.clone().requires_grad_()
    (g,) = torch.autograd.grad((Identity()(s) * s).sum(), s, create_graph=True)
    assert torch.equal(g, step(S) + S)  # identity passes s, the product rule adds the bits
