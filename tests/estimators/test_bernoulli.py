"""Bernoulli straight-through and its relatives: the written rules, and what they are exact for."""

from __future__ import annotations

import math

import pytest
import torch
from oracles import (
    LOSSES,
    THETA,
    backward,
    enumerated,
    moments,
    normal,
    passed_back,
    true_gradient,
)
from torch import Tensor

from stelab.estimators import (
    DARN,
    Bernoulli,
    BernoulliStraightThrough,
    DecoupledStraightThrough,
    ReinMax,
)
from stelab.randomness import uniform

ST = BernoulliStraightThrough(slope="sigmoid", temperature=1.0)
WARM_ST = BernoulliStraightThrough(slope="sigmoid", temperature=2.0)
IDENTITY = BernoulliStraightThrough(slope="identity", temperature=1.0)
DECOUPLED = DecoupledStraightThrough(forward_temperature=0.5, backward_temperature=2.0)
TIED = DecoupledStraightThrough(forward_temperature=0.7, backward_temperature=0.7)
REINMAX, WARM_REINMAX = ReinMax(temperature=1.0), ReinMax(temperature=1.3)
ALL = [ST, WARM_ST, IDENTITY, DECOUPLED, TIED, DARN(), REINMAX, WARM_REINMAX]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

S = [-100.0, -7.0, -2.0, -0.5, 0.0, 0.5, 2.0, 7.0, 100.0]


def sigmoid(s: float) -> float:
    return 1 / (1 + math.exp(-s))


def bump(s: float) -> float:
    """The sigmoid's derivative, exact on both sides of 0."""
    return sigmoid(s) * sigmoid(-s)


def heun(s: float, b: float, temperature: float) -> float:
    m = (sigmoid(s / temperature) + b) / 2
    return 2 * m * (1 - m) - bump(s) / 2


def written(estimator: Bernoulli, s: float, b: float) -> float:
    """The weight as its docstring writes it; `far` is |b - p| without cancellation."""
    far = sigmoid(-s) if b else sigmoid(s)
    return {
        ST: bump(s),
        WARM_ST: bump(s / 2) / 2,
        IDENTITY: 1.0,
        DECOUPLED: bump(s / 2) / 2,
        TIED: bump(s / 0.7) / 0.7,
        ALL[5]: far**2,
        REINMAX: far / 2,
        WARM_REINMAX: heun(s, b, 1.3),
    }[estimator]


@pytest.mark.parametrize("b", [0.0, 1.0])
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_backward_is_the_written_rule(estimator: Bernoulli, b: float) -> None:
    s, g = torch.tensor(S, dtype=torch.float64), normal(len(S), seed=0)
    weights = torch.tensor([written(estimator, x, b) for x in S], dtype=torch.float64)
    passed = backward(estimator, s, g, torch.full_like(s, b))
    assert torch.allclose(passed, g * weights, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_the_rule_in_every_dtype(estimator: Bernoulli, dtype: torch.dtype) -> None:
    s, g = (3 * normal(2000, seed=1)).to(dtype), normal(2000, seed=2).to(dtype)
    bits = (normal(2000, seed=3) > 0).to(dtype)
    exact = backward(estimator, s.double(), g.double(), bits.double())
    passed = backward(estimator, s, g, bits).double()
    rounding = 2 * torch.finfo(dtype).eps
    assert torch.allclose(passed, exact, rtol=rounding, atol=min(rounding, 3e-7))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_neither_value_of_a_bit_is_favoured(estimator: Bernoulli, dtype: torch.dtype) -> None:
    s = torch.linspace(-15, 15, 101, dtype=torch.float64).to(dtype)
    one, zero = torch.ones_like(s), torch.zeros_like(s)
    passed, mirrored = backward(estimator, s, one, one), backward(estimator, -s, one, zero)
    rounding = 2 * torch.finfo(dtype).eps
    assert torch.allclose(passed, mirrored, rtol=rounding, atol=min(rounding, 3e-7))


@pytest.mark.parametrize("estimator", [ST, TIED], ids=repr)
def test_the_sigmoid_slope_is_symmetric_to_the_last_bit(estimator: Bernoulli) -> None:
    s = torch.linspace(0, 100, 1001)
    weight = estimator.weight(s, s)
    assert torch.equal(weight, estimator.weight(-s, s))
    assert (weight[:600] > 0).all()  # q (1 - q) is 0 in float32 from s = 17 on, but not at -17


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_given_bits_are_taken(estimator: Bernoulli) -> None:
    s, given = torch.tensor([-9.0, -9.0, 9.0, 9.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    bits = estimator(s, bits=given)
    assert torch.equal(bits, given)
    assert bits.data_ptr() != given.data_ptr()


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_evaluation_takes_the_step(estimator: Bernoulli) -> None:
    inf, nan = float("inf"), float("nan")
    s = torch.tensor([0.0, -0.0, 1e-45, -1e-45, inf, -inf, nan, 1e4, -1e4])
    estimator.eval()
    assert estimator(s).tolist() == [0, 0, 1, 0, 1, 0, 0, 1, 0]
    estimator.train()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_extreme_logits(estimator: Bernoulli, dtype: torch.dtype) -> None:
    inf, nan = float("inf"), float("nan")
    s = torch.tensor([1e4, 100.0, inf, -100.0, -1e4, -inf, nan]).to(dtype)
    assert estimator(s).tolist() == [1, 1, 1, 0, 0, 0, 0]  # a NaN sets no bit
    for b in (0, 1):
        bits = torch.full_like(s, b)[:6]
        assert backward(estimator, s[:6], torch.ones_like(bits), bits).isfinite().all()


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_bits_follow_their_law(estimator: Bernoulli) -> None:
    n, generator = 100_000, torch.Generator().manual_seed(0)
    p = estimator.probability(THETA)
    frequency = estimator(THETA.expand(n, -1), generator=generator).mean(0)
    assert ((frequency - p).abs() < 4 * (p * (1 - p) / n).sqrt()).all()


def test_the_law_of_decoupled_bits_has_the_forward_temperature() -> None:
    assert torch.equal(DECOUPLED.probability(THETA), torch.sigmoid(THETA / 0.5))
    assert torch.equal(ST.probability(THETA), torch.sigmoid(THETA))


EXACT = [(ST, "linear"), (TIED, "linear"), (DARN(), "linear")]
EXACT += [(REINMAX, "linear"), (REINMAX, "quadratic")]


@pytest.mark.parametrize(("estimator", "loss"), EXACT, ids=str)
def test_exact(estimator: Bernoulli, loss: str) -> None:
    mean, _ = enumerated(estimator, LOSSES[loss])
    expected = true_gradient(LOSSES[loss], probability=estimator.probability)
    assert torch.allclose(mean, expected, rtol=0, atol=1e-12)


BIASED = [(ST, "quadratic"), (TIED, "quadratic"), (DARN(), "quadratic"), (REINMAX, "cubic")]
BIASED += [(WARM_ST, "linear"), (IDENTITY, "linear"), (DECOUPLED, "linear")]
BIASED += [(WARM_REINMAX, "linear"), (WARM_REINMAX, "quadratic")]


@pytest.mark.parametrize(("estimator", "loss"), BIASED, ids=str)
def test_not_exact(estimator: Bernoulli, loss: str) -> None:
    mean, _ = enumerated(estimator, LOSSES[loss])
    expected = true_gradient(LOSSES[loss], probability=estimator.probability)
    assert (mean - expected).norm() > 0.01 * expected.norm()


def test_exactness_is_declared_as_proven() -> None:
    declared = {repr(estimator): estimator.exactness for estimator in ALL}
    proven = {repr(estimator): "biased" for estimator in ALL}
    proven |= {repr(estimator): f"exact for {loss}" for estimator, loss in EXACT}
    assert declared == proven
    assert all(estimator.randomness == "bits" for estimator in ALL)


@pytest.mark.parametrize("loss", ["linear", "mlp"])
def test_heat_trades_bias_for_relative_variance(loss: str) -> None:
    cold_mean, cold_variance = enumerated(REINMAX, LOSSES[loss])
    mean, variance = enumerated(WARM_REINMAX, LOSSES[loss])
    cold = cold_variance.sum() / cold_mean.square().sum()
    assert variance.sum() / mean.square().sum() < 0.7 * cold


def test_reinmax_is_the_half_estimator() -> None:
    s, bits = 5 * normal(1000, seed=4), (normal(1000, seed=5) > 0).double()
    half = (bits - torch.sigmoid(s)).abs() / 2
    assert torch.allclose(REINMAX.weight(s, bits), half, rtol=0, atol=1e-15)


CENTRES, PROBABILITIES = [-0.4, 0.45, 0.499], [0.02, 0.3, 0.5, 0.85]


def squared_distance(estimator: Bernoulli, p: float, p0: float) -> tuple[float, float]:
    """Mean and variance of the estimate for one bit and (b - p0)^2."""
    bits = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    s = torch.tensor([p], dtype=torch.float64).logit()
    rows = passed_back(estimator, s, bits, lambda b: (b - p0).square().sum(1))
    mean, variance = moments(rows, torch.tensor([1 - p, p], dtype=torch.float64))
    return mean.item(), variance.item()


@pytest.mark.parametrize("p0", CENTRES)
@pytest.mark.parametrize("p", PROBABILITIES)
def test_closed_forms_for_one_bit(p: float, p0: float) -> None:
    v, gradient = p * (1 - p), (1 - 2 * p0) * p * (1 - p)
    reinmax = p * (1 - p) ** 2 * (1 - p0) ** 2 + (1 - p) * p**2 * p0**2 - gradient**2
    assert squared_distance(REINMAX, p, p0) == pytest.approx((gradient, reinmax), abs=1e-14)
    assert squared_distance(ST, p, p0) == pytest.approx((2 * (p - p0) * v, 4 * v**3), abs=1e-14)


def test_uniform_is_open_and_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype in DTYPES:
        drawn = uniform(torch.zeros(3, dtype=dtype), generator=None)
        assert drawn.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape))
    assert (uniform(torch.zeros(3), generator=None) > 0).all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf"), "1"])
def test_a_bad_temperature_is_refused(temperature: object) -> None:
    bad: dict[str, object] = {"temperature": temperature}
    with pytest.raises(ValueError, match="temperature"):
        BernoulliStraightThrough(slope="sigmoid", **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="temperature"):
        ReinMax(**bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="forward_temperature"):
        DecoupledStraightThrough(
            forward_temperature=temperature,  # type: ignore[arg-type]
            backward_temperature=1.0,
        )


def test_what_else_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        ReinMax(temperature=0.99)
    with pytest.raises(ValueError, match="slope"):
        BernoulliStraightThrough(slope="tanh", temperature=1.0)  # type: ignore[arg-type]


def test_a_subclass_must_say_its_weight() -> None:
    with pytest.raises(NotImplementedError, match="Bernoulli must define weight"):
        Bernoulli()(Tensor([0.0]))
