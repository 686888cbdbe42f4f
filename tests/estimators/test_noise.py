"""The noise family: density backward, distribution forward, and the surrogates it generates."""

from __future__ import annotations

import math

import pytest
import torch
from oracles import LOSSES, THETA, backward, enumerated, normal, true_gradient

from stelab.estimators import (
    ApproxSign,
    BernoulliStraightThrough,
    ClippedInput,
    Estimator,
    LogisticNoise,
    Noise,
    SigmoidSlope,
    TriangularNoise,
    UniformNoise,
)

KINDS = [UniformNoise, TriangularNoise, LogisticNoise]
ALL = [
    kind(scale=scale, stochastic=stochastic)
    for kind in KINDS
    for scale in (0.5, 1.0, 3.0)
    for stochastic in (False, True)
]
STOCHASTIC = [estimator for estimator in ALL if estimator.stochastic]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

S = torch.tensor([-4.0, -2.0, -1.0, 0.0, 0.5, 2.0, 4.0], dtype=torch.float64)
LOGISTIC = [math.exp(-abs(s) / 2) / (1 + math.exp(-abs(s) / 2)) ** 2 / 2 for s in S.tolist()]
ROWS: list[tuple[type[Noise], list[float]]] = [
    (UniformNoise, [0, 0.25, 0.25, 0.25, 0.25, 0.25, 0]),
    (TriangularNoise, [0, 0, 0.25, 0.5, 0.375, 0, 0]),
    (LogisticNoise, LOGISTIC),
]


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize(("kind", "expected"), ROWS)
def test_backward_is_the_written_rule(
    kind: type[Noise], expected: list[float], stochastic: bool
) -> None:
    g, weights = normal(len(S), seed=0), torch.tensor(expected, dtype=torch.float64)
    for b in (0, 1):  # whatever the bit
        bits = torch.full_like(S, b)
        passed = backward(kind(scale=2.0, stochastic=stochastic), S, g, bits)
        assert torch.allclose(passed, g * weights, rtol=1e-15, atol=1e-16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_the_rule_in_half_precision(estimator: Noise, dtype: torch.dtype) -> None:
    s, g = (3 * normal(2000, seed=1)).to(dtype), normal(2000, seed=2).to(dtype)
    bits, rounding = torch.ones_like(s), 8 * torch.finfo(dtype).eps
    exact = backward(estimator, s.double(), g.double(), bits.double())
    passed = backward(estimator, s, g, bits).double()
    assert torch.allclose(passed, exact, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_the_mass_is_1(estimator: Noise) -> None:
    s = torch.linspace(-120, 120, 2_400_001, dtype=torch.float64)
    weight = backward(estimator, s, torch.ones_like(s), torch.zeros_like(s))
    assert torch.trapezoid(weight, s).item() == pytest.approx(1, abs=2e-4)


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_the_weight_is_the_derivative_of_the_probability(estimator: Noise) -> None:
    s = (3 * normal(1000, seed=3)).requires_grad_()
    (density,) = torch.autograd.grad(estimator.probability(s).sum(), s)
    weight = backward(estimator, s.detach(), torch.ones_like(s), torch.zeros_like(s))
    assert torch.allclose(weight, density, rtol=0, atol=1e-15)


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_the_probability_is_a_symmetric_distribution_function(estimator: Noise) -> None:
    s = torch.arange(-2000, 2001, dtype=torch.float64) / 10
    p = estimator.probability(s)
    assert p[0] == pytest.approx(0, abs=1e-20)
    assert p[-1] == 1
    assert p[2000] == 0.5
    assert (p.diff() >= 0).all()
    assert torch.allclose(p + p.flip(0), torch.ones_like(p), rtol=0, atol=1e-15)


TWINS: list[tuple[Noise, Estimator]] = [
    (UniformNoise(scale=1.0, stochastic=False), ClippedInput(bound=1.0, normalize_mass=True)),
    (UniformNoise(scale=0.3, stochastic=False), ClippedInput(bound=0.3, normalize_mass=True)),
    (TriangularNoise(scale=1.0, stochastic=False), ApproxSign()),
    (LogisticNoise(scale=1.0, stochastic=False), SigmoidSlope(slope=1.0)),
    (LogisticNoise(scale=0.25, stochastic=False), SigmoidSlope(slope=4.0)),
]


@pytest.mark.parametrize(("noise", "surrogate"), TWINS, ids=repr)
def test_without_noise_forward_it_is_a_surrogate_bitwise(
    noise: Noise, surrogate: Estimator
) -> None:
    for dtype in DTYPES:
        s, g = normal(5000, seed=4).to(dtype), normal(5000, seed=5).to(dtype)
        assert torch.equal(noise(s), surrogate(s))
        assert torch.equal(backward(noise, s, g), backward(surrogate, s, g))
    s = normal(5000, seed=4)
    assert torch.allclose(noise.probability(s), surrogate.probability(s), rtol=0, atol=1e-15)


def test_logistic_noise_is_straight_through_for_bernoulli_bits() -> None:
    noise = LogisticNoise(scale=1.0, stochastic=True)
    straight = BernoulliStraightThrough(slope="sigmoid", temperature=1.0)
    s, g, bits = normal(100, seed=6), normal(100, seed=7), (normal(100, seed=8) > 0).double()
    assert torch.equal(backward(noise, s, g, bits), backward(straight, s, g, bits))
    assert torch.equal(noise.probability(s), straight.probability(s))


@pytest.mark.parametrize("estimator", STOCHASTIC, ids=repr)
def test_exact_for_linear_losses_and_not_for_quadratic_ones(estimator: Noise) -> None:
    for loss, exact in (("linear", True), ("quadratic", False)):
        mean, _ = enumerated(estimator, LOSSES[loss], THETA / 2)
        true = true_gradient(LOSSES[loss], THETA / 2, estimator.probability)
        assert torch.allclose(mean, true, rtol=0, atol=1e-12) == exact
        assert exact or (mean - true).norm() > 0.01 * true.norm()


def test_exactness_is_declared_as_proven() -> None:
    for estimator in ALL:
        proven = ("exact for linear", "bits") if estimator.stochastic else ("biased", "none")
        assert (estimator.exactness, estimator.randomness) == proven


@pytest.mark.parametrize("estimator", STOCHASTIC, ids=repr)
def test_bits_follow_their_law(estimator: Noise) -> None:
    n, generator = 100_000, torch.Generator().manual_seed(0)
    p = estimator.probability(THETA)
    frequency = estimator(THETA.expand(n, -1), generator=generator).mean(0)
    assert ((frequency - p).abs() <= 4 * (p * (1 - p) / n).sqrt()).all()  # 0 where p is 0 or 1


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_the_step_and_the_given_bits(estimator: Noise) -> None:
    inf, nan = float("inf"), float("nan")
    s = torch.tensor([0.0, -0.0, 1e-45, -1e-45, inf, -inf, nan, 1e4, -1e4])
    given = 1 - torch.nan_to_num(s).gt(0).float()
    assert torch.equal(estimator(s, bits=given), given)
    bits = estimator.train(not estimator.stochastic)(s)
    estimator.train()
    assert bits.tolist() == [0, 0, 1, 0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_extreme_logits(estimator: Noise, dtype: torch.dtype) -> None:
    s = torch.tensor([1e4, 100.0, -100.0, -1e4]).to(dtype)
    assert estimator(s).tolist() == [1, 1, 0, 0]
    passed = backward(estimator, s, torch.ones_like(s))
    assert passed.tolist() == pytest.approx([0] * 4, abs=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_refused(kind: type[Noise]) -> None:
    with pytest.raises(ValueError, match="scale"):
        kind(scale=0.0, stochastic=False)
    with pytest.raises(ValueError, match="stochastic"):
        kind(scale=1.0, stochastic=1)  # type: ignore[arg-type]


def test_a_subclass_must_say_its_noise() -> None:
    with pytest.raises(NotImplementedError, match=r"Noise must define density"):
        Noise(scale=1.0, stochastic=False)(torch.zeros(1))
    with pytest.raises(NotImplementedError, match=r"Noise must define distribution"):
        Noise(scale=1.0, stochastic=True)(torch.zeros(1))
