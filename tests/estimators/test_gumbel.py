"""Gumbel estimators: the coupling of noise and bit, its law, and the limits of temperature."""

from __future__ import annotations

import math

import pytest
import torch
from oracles import (
    BITS,
    CODES,
    LOSSES,
    THETA,
    backward,
    estimates,
    forge,
    grid,
    law,
    mlp,
    normal,
    passed_back,
    true_gradient,
    z_scores,
)
from torch import Tensor

from stelab.estimators import (
    BinaryConcrete,
    Estimator,
    GumbelRao,
    GumbelStraightThrough,
    ReinMax,
)
from stelab.estimators.gumbel import noisy_logit

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
EXTREMES = [-1e4, -100.0, -30.0, -1e-8, 0.0, 1e-8, 30.0, 100.0, 1e4]
ALL = [
    GumbelStraightThrough(temperature=0.5),
    GumbelRao(samples=3, temperature=0.5),
    BinaryConcrete(temperature=0.5),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("b", [0.0, 1.0])
def test_the_noisy_logit_is_on_the_bits_side(dtype: torch.dtype, b: float) -> None:
    info = torch.finfo(dtype)
    v = torch.tensor([[info.tiny], [1e-30], [0.5], [1 - info.eps / 2]], dtype=dtype)
    s = torch.tensor(EXTREMES, dtype=dtype, requires_grad=True)
    z = noisy_logit(s, torch.full_like(s, b), v)
    assert z.isfinite().all()
    assert ((z > 0) == (b == 1)).all()
    (slope,) = torch.autograd.grad(z.sum(), s)
    assert slope.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_drawn_noisy_logits_are_on_the_bits_side(dtype: torch.dtype) -> None:
    s, generator = (10 * normal(200_000, seed=0)).to(dtype), torch.Generator().manual_seed(0)
    bits = (torch.rand(s.shape, dtype=dtype, generator=generator) < torch.sigmoid(s)).to(dtype)
    v = torch.rand(s.shape, dtype=dtype, generator=generator).clamp_min(torch.finfo(dtype).tiny)
    assert torch.equal((noisy_logit(s, bits, v) > 0).to(dtype), bits)


@pytest.mark.parametrize("s", [-6.0, -0.5, 0.0, 2.0, 9.0])
def test_the_noisy_logit_has_the_conditional_law(s: float) -> None:
    """Its distribution function, put on it, gives back the uniform it was made from."""
    v, p = grid(1000), torch.sigmoid(torch.tensor(s, dtype=torch.float64))
    at = torch.full_like(v, s)
    given_0, given_1 = (noisy_logit(at, torch.full_like(v, b), v) for b in (0.0, 1.0))
    # z = s + logistic noise: P(z <= t) = sigmoid(t - s), of which 1 - p is below 0.
    assert torch.allclose(torch.sigmoid(given_0 - s) / (1 - p), 1 - v, rtol=0, atol=1e-9)
    assert torch.allclose(torch.sigmoid(s - given_1) / p, 1 - v, rtol=0, atol=1e-9)


def test_bit_and_noise_together_are_logit_and_logistic_noise() -> None:
    n, generator = 100_000, torch.Generator().manual_seed(1)
    s = THETA.expand(n, BITS)
    bits = (torch.rand(s.shape, dtype=s.dtype, generator=generator) < torch.sigmoid(s)).to(s.dtype)
    v = torch.rand(s.shape, dtype=s.dtype, generator=generator)
    noise = noisy_logit(s, bits, v) - s
    variance = math.pi**2 / 3
    assert (noise.mean(0).abs() < 4 * (variance / n) ** 0.5).all()
    kurtosis = 4.2  # of the logistic distribution
    spread = variance * ((kurtosis - 1) / n) ** 0.5
    assert ((noise.var(0) - variance).abs() < 4 * spread).all()
    distance = (torch.sigmoid(noise.sort(dim=0).values) - grid(n)[:, None]).abs().amax(0)
    assert (distance * n**0.5 < 1.63).all()  # Kolmogorov-Smirnov at 1%


def test_the_noisy_logit_is_differentiable_as_written() -> None:
    s, v = (3 * normal(50, seed=2)).requires_grad_(), grid(50)
    bits = (normal(50, seed=3) > 0).double()
    assert torch.autograd.gradcheck(lambda s: noisy_logit(s, bits, v), (s,))


def slope(s: Tensor, bits: Tensor, v: Tensor, temperature: float) -> Tensor:
    """The relaxation's slope at z = s + logit(v'), v' uniform on the bit's side of 1 - p."""
    p = torch.sigmoid(s)
    inside = torch.where(bits == 1, v * p + 1 - p, (1 - v) * (1 - p))
    y = torch.sigmoid((s + torch.logit(inside)) / temperature)
    return y * (1 - y) / temperature


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_straight_through_passes_the_slope(
    monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    s, bits, v = 2 * normal(64, seed=4), (normal(64, seed=5) > 0).double(), grid(64)
    forge(monkeypatch, "gumbel", v)
    g = normal(64, seed=6)
    passed = backward(GumbelStraightThrough(temperature=temperature), s, g, bits)
    assert torch.allclose(passed, g * slope(s, bits, v, temperature), rtol=0, atol=1e-12)


def test_gumbel_rao_passes_the_mean_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    s, bits, g = 2 * normal(64, seed=4), (normal(64, seed=5) > 0).double(), normal(64, seed=6)
    draws = [grid(64), grid(64).flip(0), grid(64).roll(11)]
    forge(monkeypatch, "gumbel", *draws)
    passed = backward(GumbelRao(samples=3, temperature=0.5), s, g, bits)
    mean = sum((slope(s, bits, v, 0.5) for v in draws), torch.zeros_like(s)) / 3
    assert torch.allclose(passed, g * mean, rtol=0, atol=1e-12)


def test_one_sample_of_gumbel_rao_is_straight_through_bitwise() -> None:
    def run(estimator: Estimator) -> tuple[Tensor, Tensor]:
        leaf = normal(1000, seed=7).requires_grad_()
        bits = estimator(leaf, generator=torch.Generator().manual_seed(3))
        bits.backward(normal(1000, seed=8))
        assert leaf.grad is not None
        return bits.detach(), leaf.grad

    rao = run(GumbelRao(samples=1, temperature=0.7))
    straight = run(GumbelStraightThrough(temperature=0.7))
    assert torch.equal(rao[0], straight[0])
    assert torch.equal(rao[1], straight[1])


CELLS = 20_000


def mean_weight(monkeypatch: pytest.MonkeyPatch, temperature: float, b: float) -> Tensor:
    """The weight of each bit of THETA, integrated over its noise."""
    forge(monkeypatch, "gumbel", grid(CELLS)[:, None])
    estimator = GumbelStraightThrough(temperature=temperature)
    bits = torch.full((CELLS, BITS), b, dtype=torch.float64)
    return passed_back(estimator, THETA, bits, lambda b: b.sum(1)).mean(0)


def mean_estimate(monkeypatch: pytest.MonkeyPatch, temperature: float, loss: str) -> Tensor:
    """The mean of the Gumbel estimators, exact but for the quadrature."""
    zero, one = (mean_weight(monkeypatch, temperature, b) for b in (0.0, 1.0))
    leaf = CODES.clone().requires_grad_()
    LOSSES[loss](leaf).sum().backward()
    assert leaf.grad is not None
    return law(torch.sigmoid(THETA)) @ (leaf.grad * torch.where(CODES == 1, one, zero))


@pytest.mark.parametrize("b", [0.0, 1.0])
def test_the_mean_weight_tends_to_reinmax(monkeypatch: pytest.MonkeyPatch, b: float) -> None:
    limit = ReinMax(temperature=1.0).weight(THETA, torch.full_like(THETA, b))
    errors = [(mean_weight(monkeypatch, t, b) - limit).abs().max() for t in (0.1, 0.03, 0.01)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 5e-3


def test_many_samples_at_a_low_temperature_are_nearly_reinmax() -> None:
    bits, g = (normal(BITS, seed=9) > 0).double(), torch.ones(BITS, dtype=torch.float64)
    rao = GumbelRao(samples=20_000, temperature=0.05)
    expected = backward(ReinMax(temperature=1.0), THETA, g, bits)
    assert torch.allclose(backward(rao, THETA, g, bits), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("loss", ["quadratic", "mlp"])
def test_the_bias_falls_with_the_temperature(monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    true = true_gradient(LOSSES[loss])
    means = [mean_estimate(monkeypatch, t, loss) for t in (2.0, 1.0, 0.3)]
    hot, warm, cold = (((mean - true).norm() / true.norm()).item() for mean in means)
    assert hot > 1.2 * warm > 1.2 * 1.2 * cold
    if loss == "quadratic":
        assert (mean_estimate(monkeypatch, 0.01, loss) - true).norm() < 0.01 * true.norm()


def test_the_mean_is_the_same_for_every_number_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        expected = mean_estimate(patch, 0.5, "mlp")
    for samples in (1, 10):
        rows = estimates(GumbelRao(samples=samples, temperature=0.5), mlp, n=50_000)
        assert (z_scores(rows, expected).abs() < 4).all()


def variance(estimator: Estimator) -> float:
    """Of the estimate for the MLP, summed over bits."""
    return estimates(estimator, mlp, n=20_000).var(0).sum().item()


def test_averaging_noise_away_halves_the_variance() -> None:
    straight = variance(GumbelStraightThrough(temperature=0.5))
    assert 0.35 * straight < variance(GumbelRao(samples=100, temperature=0.5)) < 0.65 * straight


def test_variance_grows_as_the_temperature_falls() -> None:
    hot, warm, cold = (variance(GumbelStraightThrough(temperature=t)) for t in (1.0, 0.5, 0.1))
    assert 3 * hot < 1.5 * warm < cold


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_concrete_is_the_sigmoid_of_the_noisy_logit(
    monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    s, bits, v = 2 * normal(64, seed=4), (normal(64, seed=5) > 0).double(), grid(64)
    forge(monkeypatch, "gumbel", v)
    y = torch.sigmoid(noisy_logit(s, bits, v) / temperature)
    leaf = s.clone().requires_grad_()
    soft = BinaryConcrete(temperature=temperature)(leaf, bits=bits)
    assert torch.equal(soft, y)
    soft.backward(torch.ones_like(s))
    assert leaf.grad is not None
    assert torch.allclose(leaf.grad, slope(s, bits, v, temperature), rtol=0, atol=1e-12)


def test_concrete_has_the_law_of_the_relaxation() -> None:
    n, s = 100_000, torch.tensor(0.7, dtype=torch.float64)
    y = BinaryConcrete(temperature=0.5)(s.expand(n), generator=torch.Generator().manual_seed(0))
    noise = 0.5 * torch.logit(y) - s
    distance = (torch.sigmoid(noise.sort().values) - grid(n)).abs().max()
    assert distance * n**0.5 < 1.63  # Kolmogorov-Smirnov at 1%


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_given_bits_are_taken(estimator: Estimator, training: bool) -> None:
    s, given = torch.tensor([-9.0, -9.0, 9.0, 9.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    bits = estimator.train(training)(s, bits=given)
    estimator.train()
    assert torch.equal((bits > 0.5).float(), given)  # concrete: the relaxation of these bits
    assert torch.equal(bits, given) == (not training or not estimator.relaxed)


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_evaluation_takes_the_step(estimator: Estimator) -> None:
    inf, nan = float("inf"), float("nan")
    s = torch.tensor([0.0, -0.0, 1e-45, -1e-45, inf, -inf, nan, 1e4, -1e4])
    bits = estimator.eval()(s)
    estimator.train()
    assert bits.tolist() == [0, 0, 1, 0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_extreme_logits(estimator: Estimator, dtype: torch.dtype) -> None:
    s = torch.tensor([1e4, 100.0, -100.0, -1e4]).to(dtype)
    assert estimator(s).tolist() == pytest.approx([1, 1, 0, 0], abs=1e-30)
    for b in (0, 1):
        bits = torch.full_like(s, b)
        assert backward(estimator, s, torch.ones_like(bits), bits).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_rounds_the_wide_result(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    s, bits = (3 * normal(500, seed=10)).to(dtype), (normal(500, seed=11) > 0).to(dtype)
    v, one = grid(500).float(), torch.ones(500, dtype=dtype)
    forge(monkeypatch, "gumbel", v, v)
    estimator = GumbelStraightThrough(temperature=0.7)
    wide = backward(estimator, s.float(), one.float(), bits.float())
    assert torch.equal(backward(estimator, s, one, bits), wide.to(dtype))


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="samples"):
        GumbelRao(samples=0, temperature=1.0)
    with pytest.raises(ValueError, match="temperature"):
        GumbelStraightThrough(temperature=0.0)
    with pytest.raises(ValueError, match="temperature"):
        BinaryConcrete(temperature=float("inf"))
