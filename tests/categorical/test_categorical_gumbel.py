"""Noise drawn given the one-hot: its law, and what is averaged over it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stelab.annealing import advance
from stelab.categorical import (
    AnnealedGumbelRao,
    CategoricalEstimator,
    GumbelRao,
    GumbelStraightThrough,
    ReinMax,
    ReinMaxCV,
    ReinMaxRao,
    conditional_gumbel,
)

EULER = 0.5772156649015329
LOGITS = torch.tensor([0.5, -1.0, 0.0, 1.5], dtype=torch.float64)
G = torch.tensor([1.0, -0.5, 2.0, 0.3], dtype=torch.float64)
K = len(LOGITS)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gumbel(n: int) -> Tensor:
    u = torch.rand(n, K, dtype=torch.float64, generator=random(2))
    return -(-u.log()).log()


def z_score(values: Tensor, mean: Tensor | float) -> float:
    """Return the largest |z| of the means of the columns of `values`."""
    error = values.std(0) / math.sqrt(len(values))
    return ((values.mean(0) - mean).abs() / error).max().item()


def two_sample_z(a: Tensor, b: Tensor) -> float:
    error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
    return ((a.mean(0) - b.mean(0)).abs() / error).max().item()


def drawn(n: int) -> Tensor:
    return GumbelStraightThrough(temperature=1.0).draw(LOGITS.expand(n, K), generator=random(1))


def grads(estimator: CategoricalEstimator, sample: Tensor, g: Tensor) -> Tensor:
    leaf = LOGITS.expand(len(sample), K).clone().requires_grad_()
    estimator(leaf, sample=sample, generator=random()).backward(g.expand(len(sample), K))
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_the_largest_entry_is_that_of_the_one_hot(dtype: torch.dtype, scale: float) -> None:
    log_pi = (scale * torch.randn(2000, K)).to(dtype).log_softmax(-1)
    sample = torch.eye(K, dtype=dtype)[torch.randint(K, (2000,))]
    z = conditional_gumbel(log_pi, sample, samples=5, generator=random())
    assert z.shape == (5, 2000, K)
    assert torch.equal(z.argmax(-1), sample.argmax(-1).expand(5, 2000))


def test_the_marginal_law_is_that_of_independent_gumbels() -> None:
    n = 100_000
    log_pi = LOGITS.log_softmax(-1)
    (z,) = conditional_gumbel(log_pi.expand(n, K), drawn(n), samples=1, generator=random())
    noise = z - log_pi - EULER
    assert z_score(noise, 0.0) < 4
    assert z_score(noise.square(), math.pi**2 / 6) < 4
    products = torch.stack([noise[:, i] * noise[:, j] for i in range(K) for j in range(i)], -1)
    assert z_score(products, 0.0) < 4
    unconditional = log_pi + gumbel(n)
    assert two_sample_z(z.softmax(-1), unconditional.softmax(-1)) < 4
    assert two_sample_z((3 * z).softmax(-1), (3 * unconditional).softmax(-1)) < 4


def test_the_largest_entry_is_a_gumbel_whatever_the_class() -> None:
    n = 50_000
    for x in range(K):
        sample = torch.eye(K).double()[x].expand(n, K)
        log_pi = LOGITS.log_softmax(-1).expand(n, K)
        (z,) = conditional_gumbel(log_pi, sample, samples=1, generator=random())
        assert z_score(z[:, x, None], EULER) < 4


def test_no_gradient_flows_through_the_draw() -> None:
    n, tau = 50, 0.7
    sample = drawn(n)
    estimate = grads(GumbelRao(samples=3, temperature=tau), sample, G)
    log_pi = LOGITS.log_softmax(-1).expand(n, K)
    noise = conditional_gumbel(log_pi, sample, samples=3, generator=random()) - LOGITS
    leaf = LOGITS.expand(n, K).clone().requires_grad_()
    ((leaf + noise) / tau).softmax(-1).mean(0).backward(G.expand(n, K))
    assert torch.allclose(estimate, torch.as_tensor(leaf.grad), rtol=0, atol=1e-14)


def test_one_sample_of_gumbel_rao_is_straight_through_gumbel_softmax() -> None:
    sample = drawn(100)
    rao = grads(GumbelRao(samples=1, temperature=0.5), sample, G)
    assert torch.equal(rao, grads(GumbelStraightThrough(temperature=0.5), sample, G))


@pytest.mark.parametrize(("progress", "tau"), [(0.0, 2.0), (0.5, 1.0), (1.0, 0.5)])
def test_an_annealed_temperature_falls_geometrically(progress: float, tau: float) -> None:
    sample, annealed = drawn(100), AnnealedGumbelRao(samples=3, start=2.0, end=0.5)
    advance(annealed, progress)
    fixed = grads(GumbelRao(samples=3, temperature=tau), sample, G)
    assert torch.allclose(grads(annealed, sample, G), fixed, rtol=1e-12, atol=0)


def loss(sample: Tensor) -> Tensor:
    return (sample @ G) ** 3 + (sample @ G.cos()) ** 2


def estimates(estimator: CategoricalEstimator, n: int) -> Tensor:
    leaf = LOGITS.expand(n, K).clone().requires_grad_()
    loss(estimator(leaf, generator=random())).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def test_straight_through_gumbel_softmax_has_the_law_of_the_usual_one() -> None:
    n, tau = 100_000, 0.5
    leaf = LOGITS.expand(n, K).clone().requires_grad_()
    y = ((leaf + gumbel(n)) / tau).softmax(-1)
    hard = torch.eye(K).double()[y.argmax(-1)].requires_grad_()
    (g,) = torch.autograd.grad(loss(hard).sum(), hard)
    y.backward(g)
    usual = torch.as_tensor(leaf.grad)
    ours = estimates(GumbelStraightThrough(temperature=tau), n)
    assert two_sample_z(ours, usual) < 4
    assert two_sample_z(ours.square(), usual.square()) < 4


def test_more_samples_keep_the_mean_and_lower_the_variance() -> None:
    one = estimates(GumbelRao(samples=1, temperature=0.5), 50_000)
    many = estimates(GumbelRao(samples=50, temperature=0.5), 20_000)
    assert two_sample_z(one, many) < 4
    assert many.var(0).sum() < 0.8 * one.var(0).sum()


def mean_slope(p_other: float, tau: float) -> float:
    r"""Integrate :math:`\sigma'(w/\tau)/\tau` over the lead w of the drawn of two classes.

    The ratio of two exponentials is u / (1 - u) with u uniform, and the lead
    ``log(1 + ratio / p_other)``.
    """
    u = (torch.arange(1_000_000).double() + 0.5) / 1_000_000
    lead = torch.log1p(u / (1 - u) / p_other) / tau
    return (torch.sigmoid(lead) * torch.sigmoid(-lead)).mean().item() / tau


def of_two(estimator: CategoricalEstimator, p: float, n: int) -> Tensor:
    """Return gradients at the drawn of two classes, of probability p, for g = (1, 0)."""
    leaf = torch.tensor([p, 1 - p]).double().log().repeat(n, 1).requires_grad_()
    sample = torch.tensor([1.0, 0.0]).double().expand(n, 2)
    estimator(leaf, sample=sample, generator=random()).backward(sample)
    assert leaf.grad is not None
    return leaf.grad[:, :1]


@pytest.mark.parametrize("p", [0.2, 0.7])
@pytest.mark.parametrize("tau", [0.5, 1.5])
def test_the_means_for_two_classes_are_their_integrals(p: float, tau: float) -> None:
    rao = of_two(GumbelRao(samples=2, temperature=tau), p, 50_000)
    assert z_score(rao, mean_slope(1 - p, tau)) < 4
    reinmax_rao = of_two(ReinMaxRao(samples=2, temperature=tau), p, 50_000)
    assert z_score(reinmax_rao, 2 * mean_slope((1 - p) / 2, tau) - p * (1 - p) / 2) < 4


@pytest.mark.parametrize("p", [0.2, 0.7])
def test_cold_gumbel_rao_is_zgr_and_cold_reinmax_rao_half_of_darn(p: float) -> None:
    d = 1 - p
    assert mean_slope(1 - p, 1e-3) == pytest.approx((p * d + d * d) / 2, rel=2e-2)
    cold = 2 * mean_slope((1 - p) / 2, 1e-3) - p * d / 2
    assert cold == pytest.approx(d * d / 2, rel=2e-2)


def test_reinmax_rao_and_cv_are_the_written_rules_given_their_noise() -> None:
    n, tau, eta = 5, 0.7, 1.5
    sample, pi = drawn(n), LOGITS.softmax(-1)
    jg_pi = pi * (G - pi @ G)

    def jg_of_noise(samples: int) -> Tensor:
        log_m = ((pi + sample) / 2).log()
        z = conditional_gumbel(log_m, sample, samples=samples, generator=random())
        y = (z / tau).softmax(-1)
        return y * (G - (y * G).sum(-1, keepdim=True)) / tau

    rao = 2 * jg_of_noise(3).mean(0) - jg_pi / 2
    estimate = grads(ReinMaxRao(samples=3, temperature=tau), sample, G)
    assert torch.allclose(estimate, rao, rtol=0, atol=1e-14)
    first, *others = jg_of_noise(4)
    reinmax = grads(ReinMax(temperature=1.0), sample, G)
    cv = reinmax + eta * (torch.stack(others).mean(0) - first)
    estimate = grads(ReinMaxCV(strength=eta, samples=3, temperature=tau), sample, G)
    assert torch.allclose(estimate, cv, rtol=0, atol=1e-14)


def test_the_control_variate_of_strength_0_leaves_reinmax() -> None:
    sample = drawn(100)
    for samples, temperature in ((1, 0.3), (7, 2.0)):
        cv = ReinMaxCV(strength=0.0, samples=samples, temperature=temperature)
        assert torch.equal(grads(cv, sample, G), grads(ReinMax(temperature=1.0), sample, G))


@pytest.mark.parametrize("strength", [-0.5, 1.5])
def test_the_control_variate_has_mean_0_given_the_one_hot(strength: float) -> None:
    cv = ReinMaxCV(strength=strength, samples=3, temperature=0.7)
    for x in range(K):
        sample = torch.eye(K).double()[x].expand(20_000, K)
        values = grads(cv, sample, G)
        assert z_score(values, grads(ReinMax(temperature=1.0), sample[:1], G)[0]) < 4
        assert values.std(0).min() > 0


def test_more_samples_keep_the_mean_of_reinmax_rao_and_lower_its_variance() -> None:
    one = estimates(ReinMaxRao(samples=1, temperature=0.7), 50_000)
    many = estimates(ReinMaxRao(samples=50, temperature=0.7), 20_000)
    assert two_sample_z(one, many) < 4
    assert many.var(0).sum() < 0.8 * one.var(0).sum()
