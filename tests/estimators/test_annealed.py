"""Estimators that harden: the rules along their schedules, and the schedules' two ends."""

from __future__ import annotations

import math

import pytest
import torch
from oracles import LOSSES, THETA, backward, enumerated, normal, true_gradient
from torch import Tensor, nn

from stelab.annealing import Scheduled, advance
from stelab.estimators import (
    EDE,
    Estimator,
    LogisticNoise,
    NoiseAnnealed,
    Progressive,
    SlopeAnnealed,
    step,
)

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
PROGRESS = [0.0, 0.25, 0.5, 1.0]


def every() -> list[Estimator]:
    return [
        EDE(start=1e-3, end=10.0, normalize_mass=False),
        SlopeAnnealed(start=1.0, end=5.0, stochastic=False),
        SlopeAnnealed(start=1.0, end=5.0, stochastic=True),
        NoiseAnnealed(start=1.0, end=0.1),
        Progressive(start=1.0, end=10.0),
    ]


def at(estimator: Estimator, progress: float) -> Estimator:
    advance(estimator, progress)
    return estimator


S = torch.tensor([-2.0, -0.3, -0.1, 0.0, 0.15, 0.3, 2.0], dtype=torch.float64)


def ede(s: Tensor, r: float) -> Tensor:
    t = 10 ** (-3 + 4 * r)  # the paper's, from log10 t = -3 to 1
    k = max(1 / t, 1)
    return k * t * (1 - torch.tanh(t * s) ** 2) / 2


def slope(s: Tensor, r: float) -> Tensor:
    a = 1 + 4 * r
    return a / 2 * ((a * s).abs() < 1)


def logistic(s: Tensor, r: float) -> Tensor:
    k = 10**r
    return k * torch.sigmoid(k * s) * torch.sigmoid(-k * s)


RULES = dict(zip(map(repr, every()), [ede, slope, slope, logistic, logistic], strict=True))


@pytest.mark.parametrize("r", PROGRESS)
@pytest.mark.parametrize("estimator", every(), ids=repr)
def test_backward_is_the_written_rule(estimator: Estimator, r: float) -> None:
    g, rule = normal(len(S), seed=0), RULES[repr(estimator)]
    for b in (0, 1):
        passed = backward(at(estimator, r), S, g, torch.full_like(S, b))
        assert torch.allclose(passed, g * rule(S, r), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("estimator", every(), ids=repr)
def test_the_rule_in_half_precision(estimator: Estimator, dtype: torch.dtype) -> None:
    s, g = normal(2000, seed=1).to(dtype), normal(2000, seed=2).to(dtype)
    at(estimator, 0.25)
    bits, rounding = torch.ones_like(s), 8 * torch.finfo(dtype).eps
    exact = backward(estimator, s.double(), g.double(), bits.double())
    passed = backward(estimator, s, g, bits).double()
    assert torch.allclose(passed, exact, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("r", PROGRESS)
@pytest.mark.parametrize("estimator", every(), ids=repr)
def test_the_mass(estimator: Estimator, r: float) -> None:
    at(estimator, r)
    s = torch.linspace(-60, 60, 1_200_001, dtype=torch.float64)
    k = 1.0
    if isinstance(estimator, EDE):
        t = 10 ** (-3 + 4 * r)
        k = max(1 / t, 1) * math.tanh(60 * t)  # of the mass k, what these limits hold
    weight = backward(estimator, s, torch.ones_like(s), torch.zeros_like(s))
    assert torch.trapezoid(weight, s).item() == pytest.approx(k, rel=3e-4)


@pytest.mark.parametrize("r", PROGRESS)
@pytest.mark.parametrize("estimator", every(), ids=repr)
def test_the_weight_is_the_derivative_of_the_probability(estimator: Estimator, r: float) -> None:
    s = normal(1000, seed=3).requires_grad_()
    (density,) = torch.autograd.grad(at(estimator, r).probability(s).sum(), s)
    if isinstance(estimator, EDE):
        density = density * max(10 ** (3 - 4 * r), 1)  # up to its mass
    weight = backward(estimator, s.detach(), torch.ones_like(s), torch.zeros_like(s))
    assert torch.allclose(weight, density, rtol=1e-12, atol=1e-14)


def test_ede_starts_as_the_identity_and_ends_as_a_step() -> None:
    estimator, one = EDE(start=1e-3, end=10.0, normalize_mass=False), torch.ones_like(S)
    assert torch.allclose(backward(estimator, S, 2 * one), one, rtol=0, atol=1e-5)  # halved
    at(estimator, 1.0)
    assert backward(estimator, S, one)[3] == pytest.approx(5)
    assert backward(estimator, S, one)[[0, -1]].tolist() == pytest.approx([0, 0], abs=1e-15)
    assert torch.allclose(estimator.probability(S)[[0, -1]], step(S)[[0, -1]], rtol=0, atol=1e-15)


@pytest.mark.parametrize(("r", "scale"), [(0.0, 1.5), (1.0, 0.1)])
def test_annealed_noise_ends_as_noise_of_that_scale(r: float, scale: float) -> None:
    annealed = at(NoiseAnnealed(start=1.5, end=0.1), r)
    noise = LogisticNoise(scale=scale, stochastic=True)
    bits, g = (normal(7, seed=4) > 0).double(), normal(7, seed=5)
    assert torch.allclose(
        backward(annealed, S, g, bits), backward(noise, S, g, bits), rtol=1e-14, atol=0
    )
    assert torch.allclose(annealed.probability(S), noise.probability(S), rtol=1e-14, atol=0)


@pytest.mark.parametrize("r", PROGRESS)
@pytest.mark.parametrize("name", ["SlopeAnnealed", "NoiseAnnealed"])
def test_stochastic_ones_are_exact_for_linear_losses(name: str, r: float) -> None:
    estimator = at(next(e for e in every()[2:] if type(e).__name__ == name), r)
    for loss, exact in (("linear", True), ("quadratic", False)):
        mean, _ = enumerated(estimator, LOSSES[loss], THETA / 10)
        true = true_gradient(LOSSES[loss], THETA / 10, estimator.probability)
        assert torch.allclose(mean, true, rtol=0, atol=1e-12) == exact
        assert exact or (mean - true).norm() > 0.01 * true.norm()


def test_exactness_is_declared_as_proven() -> None:
    biased, linear = ("biased", "none"), ("exact for linear", "bits")
    declared = [(e.exactness, e.randomness) for e in every()]
    assert declared == [biased, biased, linear, linear, biased]


@pytest.mark.parametrize("estimator", every()[2:4], ids=repr)
def test_bits_follow_their_law(estimator: Estimator) -> None:
    n, generator = 100_000, torch.Generator().manual_seed(0)
    p = at(estimator, 0.25).probability(THETA / 2)
    frequency = estimator((THETA / 2).expand(n, -1), generator=generator).mean(0)
    assert ((frequency - p).abs() <= 4 * (p * (1 - p) / n).sqrt()).all()


def test_progressive_is_soft_in_training_and_the_gap_closes() -> None:
    estimator, gaps = Progressive(start=1.0, end=1e4), []
    s = S[S != 0]
    for r in (0.0, 0.5, 1.0):
        soft = at(estimator.train(), r)(s)
        assert torch.allclose(soft, torch.sigmoid(1e4**r * s), rtol=1e-12, atol=0)
        gaps.append((soft - estimator.eval()(s)).abs().max().item())
    assert gaps[0] > 0.4 > gaps[1] > gaps[2]
    assert gaps[2] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("bits", [None, torch.ones_like(S)])
def test_progressive_passes_the_derivative_of_what_it_computed(bits: Tensor | None) -> None:
    estimator = at(Progressive(start=1.0, end=10.0), 0.25)
    s = S.clone().requires_grad_()
    (expected,) = torch.autograd.grad(torch.sigmoid(10**0.25 * s).sum(), s)
    passed = backward(estimator, S, torch.ones_like(S), bits)
    assert torch.allclose(passed, expected, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("estimator", every(), ids=repr)
def test_the_step_and_the_given_bits(estimator: Estimator) -> None:
    inf, nan = float("inf"), float("nan")
    s = torch.tensor([0.0, -0.0, 1e-45, -1e-45, inf, -inf, nan, 1e4, -1e4])
    given = 1 - torch.nan_to_num(s).gt(0).float()
    for training in (True, False):
        assert torch.equal(estimator.train(training)(s, bits=given), given)
    assert estimator(s).tolist() == [0, 0, 1, 0, 1, 0, 0, 1, 0]
    estimator.train()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("r", [0.0, 1.0])
@pytest.mark.parametrize("estimator", every(), ids=repr)
def test_extreme_logits(estimator: Estimator, r: float, dtype: torch.dtype) -> None:
    s = torch.tensor([1e4, 100.0, -100.0, -1e4]).to(dtype)
    assert at(estimator, r)(s).tolist() == pytest.approx([1, 1, 0, 0], abs=1e-30)
    assert backward(estimator, s, torch.ones_like(s)).isfinite().all()


def test_advance_reaches_every_schedule_inside() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(*every()), nn.ReLU())
    advance(net, 0.625)
    progress = [part.progress.item() for part in net.modules() if isinstance(part, Scheduled)]
    assert progress == [0.625] * 5


@pytest.mark.parametrize("index", range(5))
def test_the_state_dict_carries_the_progress(index: int) -> None:
    old, new = every()[index], every()[index]
    at(old, 0.3)
    assert {*old.state_dict()} == {"progress"}
    s, one = THETA / 10, torch.ones_like(THETA)
    assert not torch.equal(backward(new, s, one, one), backward(old, s, one, one))
    new.load_state_dict(old.state_dict())
    assert torch.equal(backward(new, s, one, one), backward(old, s, one, one))


def test_the_schedules_by_hand() -> None:
    schedule = Scheduled(start=2.0, end=8.0)
    for r, linear, geometric in [(0.0, 2.0, 2.0), (0.5, 5.0, 4.0), (1.0, 8.0, 8.0)]:
        advance(schedule, r)
        assert schedule.linear().item() == linear
        assert schedule.geometric().item() == pytest.approx(geometric, rel=1e-15)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), "1"])
@pytest.mark.parametrize("name", ["start", "end"])
def test_bad_ends_are_refused(name: str, value: float) -> None:
    ends = {"start": 1.0, "end": 1.0, name: value}
    for build in (
        lambda: EDE(**ends, normalize_mass=False),
        lambda: SlopeAnnealed(**ends, stochastic=False),
        lambda: NoiseAnnealed(**ends),
        lambda: Progressive(**ends),
    ):
        with pytest.raises(ValueError, match=name):
            build()


@pytest.mark.parametrize("r", PROGRESS)
def test_ede_of_normalized_mass_is_the_slope_of_its_soft_step(r: float) -> None:
    estimator = at(EDE(start=1e-3, end=10.0, normalize_mass=True), r)
    s = normal(1000, seed=3).requires_grad_()
    (density,) = torch.autograd.grad(estimator.probability(s).sum(), s)
    weight = backward(estimator, s.detach(), torch.ones_like(s), torch.zeros_like(s))
    assert torch.allclose(weight, density, rtol=1e-12, atol=1e-14)
