"""Quantizers of one bit: their rules, the learned steepness, and their limits."""

from __future__ import annotations

import math

import pytest
import torch
from oracles import backward, normal
from torch import Tensor

from stelab.estimators import DSQ, EWGS, ClippedInput, Estimator, Identity, ZeroGradient

S = torch.tensor([-2.0, -0.5, -0.25, 0.0, 0.25, 0.5, 2.0], dtype=torch.float64)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
ALL: list[Estimator] = [DSQ(interval=2.0, steepness=2.0), EWGS(scaling=0.2), EWGS(scaling=0.0)]


def soft(s: float, interval: float, k: float) -> float:
    c = max(-interval / 2, min(interval / 2, s))
    return 0.5 + math.tanh(k * c) / math.tanh(k * interval / 2) / 2


def slope(s: float, interval: float, k: float) -> float:
    return k * (1 - math.tanh(k * s) ** 2) / math.tanh(k * interval / 2) / 2


@pytest.mark.parametrize(("interval", "k"), [(2.0, 2.0), (1.5, 0.5), (6.0, 8.0)])
def test_dsq_passes_the_slope_of_its_soft_step(interval: float, k: float) -> None:
    estimator = DSQ(interval=interval, steepness=k).double()
    inside = [slope(s, interval, k) if abs(s) < interval / 2 else 0.0 for s in S.tolist()]
    g = normal(len(S), seed=0)
    passed = backward(estimator, S, g)
    expected = g * torch.tensor(inside, dtype=torch.float64)
    assert torch.allclose(passed, expected, rtol=2e-7, atol=2e-7)  # k was made in float32
    p = [soft(s, interval, k) for s in S.tolist()]
    assert estimator.probability(S).tolist() == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize(("interval", "k"), [(2.0, 2.0), (1.5, 0.5), (6.0, 8.0)])
def test_the_mass_of_dsq_is_1(interval: float, k: float) -> None:
    estimator = DSQ(interval=interval, steepness=k)
    s = torch.linspace(-4, 4, 800_001, dtype=torch.float64)
    mass = torch.trapezoid(backward(estimator, s, torch.ones_like(s)), s).item()
    assert mass == pytest.approx(1, abs=2e-5)
    jump = estimator.probability(torch.tensor([-9.0, 9.0], dtype=torch.float64))
    assert jump.tolist() == pytest.approx([0, 1], abs=1e-15)


def test_the_weight_of_dsq_is_the_derivative_of_the_probability() -> None:
    estimator, s = DSQ(interval=2.0, steepness=2.0), normal(1000, seed=1).requires_grad_()
    (density,) = torch.autograd.grad(estimator.probability(s).sum(), s)
    assert torch.equal(backward(estimator, s.detach(), torch.ones_like(s)), density)


def test_dsq_trains_its_steepness_like_its_soft_step() -> None:
    g, s = normal(200, seed=2), normal(200, seed=3)

    def soft_loss(log_k: float) -> float:
        k = math.exp(log_k)
        return sum(w * soft(x, 2.0, k) for w, x in zip(g.tolist(), s.tolist(), strict=True))

    estimator = DSQ(interval=2.0, steepness=2.0).double()
    estimator(s).backward(g)
    log_k, h = estimator.log_steepness.item(), 1e-5
    assert estimator.log_steepness.requires_grad
    assert estimator.log_steepness.grad is not None
    difference = (soft_loss(log_k + h) - soft_loss(log_k - h)) / (2 * h)
    assert estimator.log_steepness.grad.item() == pytest.approx(difference, rel=1e-7)
    assert estimator.variance_optimizer() is None  # the model's optimizer trains it


def test_flat_dsq_is_a_clip_of_the_input_and_steep_dsq_a_step() -> None:
    flat, clip = DSQ(interval=2.0, steepness=1e-3), ClippedInput(bound=1.0, normalize_mass=True)
    g = normal(len(S), seed=4)
    assert torch.allclose(backward(flat, S, g), backward(clip, S, g), rtol=1e-5, atol=0)
    steep = DSQ(interval=2.0, steepness=1e4)
    assert torch.equal(steep.probability(S)[[0, 1, 5, 6]], torch.tensor([0.0, 0, 1, 1]).double())


def written_ewgs(s: Tensor, g: Tensor, bits: Tensor, scaling: float) -> Tensor:
    gap = (s + 0.5).clamp(0, 1) - bits
    return g * (1 + scaling * g.sign() * gap)


def test_ewgs_by_hand() -> None:
    g = torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    # x = 0, 0, .25, .5, .75, 1, 1 and b = 0, 0, 0, 0, 1, 1, 1
    expected = [1, 1, 1.05, 1.1, -1.05, -1, -1]
    assert backward(EWGS(scaling=0.2), S, g).tolist() == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ewgs_is_the_written_rule(dtype: torch.dtype) -> None:
    s, g = normal(2000, seed=5).to(dtype), normal(2000, seed=6).to(dtype)
    bits = (normal(2000, seed=7) > 0).to(dtype)  # not the step's
    passed = backward(EWGS(scaling=0.7), s, g, bits).double()
    expected = written_ewgs(s.double(), g.double(), bits.double(), 0.7)
    rounding = 4 * torch.finfo(dtype).eps
    assert torch.allclose(passed, expected, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ewgs_without_scaling_is_the_identity_bitwise(dtype: torch.dtype) -> None:
    s, g = (100 * normal(2000, seed=8)).to(dtype), normal(2000, seed=9).to(dtype)
    ewgs = EWGS(scaling=0.0)
    assert torch.equal(ewgs(s), Identity()(s))
    assert torch.equal(backward(ewgs, s, g), backward(Identity(), s, g))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_dsq_in_half_precision(dtype: torch.dtype) -> None:
    s, g = normal(2000, seed=10).to(dtype), normal(2000, seed=11).to(dtype)
    estimator, rounding = ALL[0], 8 * torch.finfo(dtype).eps
    exact = backward(estimator, s.double(), g.double())
    assert torch.allclose(backward(estimator, s, g).double(), exact, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_the_step_and_the_given_bits(estimator: Estimator) -> None:
    inf, nan = float("inf"), float("nan")
    s = torch.tensor([0.0, -0.0, 1e-45, -1e-45, inf, -inf, nan, 1e4, -1e4])
    for training in (True, False):
        assert estimator.train(training)(s).tolist() == [0, 0, 1, 0, 1, 0, 0, 1, 0]
        given = 1 - torch.nan_to_num(s).gt(0).float()
        assert torch.equal(estimator(s, bits=given), given)
    estimator.train()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_extreme_logits(estimator: Estimator, dtype: torch.dtype) -> None:
    s = torch.tensor([1e4, 100.0, -100.0, -1e4]).to(dtype)
    far = Identity() if isinstance(estimator, EWGS) else ZeroGradient()
    one = torch.ones_like(s)
    assert torch.equal(backward(estimator, s, one), backward(far, s, one))


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "1"])
def test_what_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="scaling"):
        EWGS(scaling=value)
    with pytest.raises(ValueError, match="interval"):
        DSQ(interval=value, steepness=1.0)
    with pytest.raises(ValueError, match="steepness"):
        DSQ(interval=1.0, steepness=value)
