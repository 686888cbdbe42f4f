"""Exact values: formulas written out, and the mean over all one-hots, enumerated in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

import stelab
from stelab.annealing import advance
from stelab.categorical import (
    MVE,
    ZGR,
    AnnealedMVE,
    CategoricalEstimator,
    GappedStraightThrough,
    GumbelRao,
    GumbelStraightThrough,
    PerExampleLoss,
    ReinMax,
    ReinMaxCV,
    ReinMaxRao,
    SoftmaxJacobians,
    StraightThrough,
)
from stelab.engine.config import CONF_DIR

L, K = 2, 4
CODES = torch.stack(
    [torch.eye(K).double()[list(code)] for code in itertools.product(range(K), repeat=L)]
)


def grad(estimator: CategoricalEstimator, logits: Tensor, sample: Tensor, g: Tensor) -> Tensor:
    leaf = logits.clone().requires_grad_()
    estimator(leaf, sample=sample).backward(g)
    assert leaf.grad is not None
    return leaf.grad


def case(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, the one-hots of all classes in turn, and random upstream gradients."""
    random = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(K, generator=random, dtype=torch.float64)
    g = torch.randn(K, K, generator=random, dtype=torch.float64)
    return logits.expand(K, K), torch.eye(K).double(), g


def linear(codes: Tensor) -> Tensor:
    return codes.flatten(1) @ torch.linspace(-1, 2, L * K).double()


def quadratic(codes: Tensor) -> Tensor:
    c = codes.flatten(1)
    a = torch.arange((L * K) ** 2).double().sin().reshape(L * K, L * K)
    return linear(codes) + torch.einsum("ni,ij,nj->n", c, a, c)


def cubic(codes: Tensor) -> Tensor:
    return quadratic(codes) + (codes.flatten(1) @ torch.arange(L * K).double().cos()) ** 3


LOSSES: dict[str, PerExampleLoss] = {"linear": linear, "quadratic": quadratic, "cubic": cubic}


def logits_of_code() -> Tensor:
    return torch.tensor([[0.5, -1.0, 0.0, 1.5], [-0.3, 0.2, 2.0, -2.0]], dtype=torch.float64)


def exact_gradient(f: PerExampleLoss) -> Tensor:
    leaf = logits_of_code().requires_grad_()
    q = (CODES * leaf.log_softmax(-1)).sum((1, 2)).exp()
    (q @ f(CODES)).backward()
    assert leaf.grad is not None
    return leaf.grad


def mean_estimate(estimator: CategoricalEstimator, f: PerExampleLoss) -> Tensor:
    leaf = logits_of_code().expand(len(CODES), L, K).clone().requires_grad_()
    q = (CODES * leaf.detach().log_softmax(-1)).sum((1, 2)).exp()
    f(estimator(leaf, sample=CODES)).sum().backward()
    assert leaf.grad is not None
    return torch.einsum("n,nlk->lk", q, leaf.grad)


def bias(estimator: CategoricalEstimator, f: PerExampleLoss) -> float:
    return (mean_estimate(estimator, f) - exact_gradient(f)).abs().max().item()


def of_conf() -> list[CategoricalEstimator]:
    files = sorted(Path(CONF_DIR, "categorical").glob("*.yaml"))
    return [stelab.build(OmegaConf.load(path)) for path in files]


ENUMERABLE = [estimator for estimator in of_conf() if estimator.randomness == "sample"]
MORE = [
    StraightThrough(temperature=1.5),
    ReinMax(temperature=1.5),
    GappedStraightThrough(gap="p", temperature=1.0),
    MVE(temperature=0.0),
    MVE(temperature=1.0),
    MVE(temperature=10.0),
]


@pytest.mark.parametrize("estimator", [*ENUMERABLE, *MORE], ids=repr)
def test_it_is_exact_for_what_it_says_and_for_no_more(estimator: CategoricalEstimator) -> None:
    exact = {"biased": 0, "exact for linear": 1, "exact for quadratic": 2}[estimator.exactness]
    losses = list(LOSSES.values())
    for f in losses[:exact]:
        assert bias(estimator, f) < 1e-12
    assert bias(estimator, losses[exact]) > 1e-4


def test_straight_through_is_not_exact_for_quadratic_losses() -> None:
    assert bias(StraightThrough(temperature=1.0), linear) < 1e-12
    assert bias(StraightThrough(temperature=1.0), quadratic) > 0.1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_straight_through_differentiates_the_softmax(temperature: float) -> None:
    logits, sample, g = case(0)
    leaf = logits.clone().requires_grad_()
    (leaf / temperature).softmax(-1).backward(g)
    estimate = grad(StraightThrough(temperature=temperature), logits, sample, g)
    assert torch.allclose(estimate, torch.as_tensor(leaf.grad), rtol=0, atol=1e-14)


def test_reinmax_at_1_is_zgr_and_its_surrogate() -> None:
    logits, sample, g = case(1)
    leaf = logits.clone().requires_grad_()
    log_pi = leaf.log_softmax(-1)
    surrogate = (
        log_pi.exp() + sample.sub(log_pi.exp()).detach() * (log_pi * sample).sum(-1, True)
    ) / 2
    surrogate.backward(g)
    pi = logits.softmax(-1)
    d = sample - pi
    written = (pi * (g - (pi * g).sum(-1, True)) + d * (d * g).sum(-1, True)) / 2
    for expected in (torch.as_tensor(leaf.grad), written):
        for estimator in (ReinMax(temperature=1.0), ZGR()):
            estimate = grad(estimator, logits, sample, g)
            assert torch.allclose(estimate, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("temperature", [1.0, 1.3])
@pytest.mark.parametrize("theta", [-4.0, -0.5, 0.0, 2.0])
def test_reinmax_of_two_classes_is_the_scalar_rule(temperature: float, theta: float) -> None:
    logits = torch.tensor([0.0, theta], dtype=torch.float64).expand(2, 2)
    g = torch.tensor([[0.3, -1.1], [2.0, 0.7]], dtype=torch.float64)
    estimate = grad(ReinMax(temperature=temperature), logits, torch.eye(2).double(), g)
    p = 1 / (1 + math.exp(-theta))
    for b in (0, 1):
        m = (1 / (1 + math.exp(-theta / temperature)) + b) / 2
        scalar = (g[b, 1] - g[b, 0]).item() * (2 * m * (1 - m) - p * (1 - p) / 2)
        assert estimate[b].tolist() == pytest.approx([-scalar, scalar], abs=1e-14)


def test_mve_at_0_is_straight_through() -> None:
    logits, sample, g = case(2)
    expected = grad(StraightThrough(temperature=1.0), logits, sample, g)
    assert torch.allclose(
        grad(MVE(temperature=0.0), logits, sample, g), expected, rtol=0, atol=1e-14
    )


def test_mve_of_two_classes_at_infinity_is_zgr_however_unlikely_the_class() -> None:
    theta = torch.tensor([-200.0, -40.0, -1.0, 0.0, 3.0, 60.0, 200.0]).double()
    logits = torch.stack([torch.zeros(7), theta], -1).repeat(2, 1).double()
    sample = torch.eye(2).double().repeat_interleave(7, 0)
    g = torch.randn(14, 2).double()
    expected = grad(ZGR(), logits, sample, g)
    estimate = grad(MVE(temperature="infinite"), logits, sample, g)
    assert torch.allclose(estimate, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("progress", "temperature"), [(0.0, 0.25), (0.5, 2.0), (1.0, 16.0)])
def test_the_annealed_temperature_of_mve_rises_geometrically(
    progress: float, temperature: float
) -> None:
    annealed = AnnealedMVE(start=0.25, end=16.0)
    advance(annealed, progress)
    expected = grad(MVE(temperature=temperature), *case(2))
    assert torch.allclose(grad(annealed, *case(2)), expected, rtol=1e-12, atol=0)


def test_annealed_mve_ends_next_to_the_exact_one() -> None:
    annealed = AnnealedMVE(start=1.0, end=1e12)
    advance(annealed, 1.0)
    expected = grad(MVE(temperature="infinite"), *case(2))
    assert torch.allclose(grad(annealed, *case(2)), expected, rtol=0, atol=1e-8)


def rows(temperature: float | str) -> tuple[Tensor, Tensor]:
    """Return pi and the matrices S, indexed [x, i, k], by backpropagating the unit vectors."""
    logits, _, _ = case(3)
    x, i = torch.meshgrid(torch.arange(K), torch.arange(K), indexing="ij")
    eye = torch.eye(K).double()
    estimator = MVE(temperature=temperature)  # type: ignore[arg-type]
    s = grad(estimator, logits[0].expand(K, K, K), eye[x], eye[i])
    return logits[0].softmax(-1), s


def jacobian(pi: Tensor) -> Tensor:
    return pi.diag() - pi.outer(pi)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 5.0, 1e3])
def test_mve_minimizes_what_it_says(temperature: float) -> None:
    pi, s = rows(temperature)
    j = jacobian(pi)
    eye = torch.eye(K).double()

    def objective(flat: Tensor) -> Tensor:
        s = flat.reshape(K, K, K)
        weighted = pi[:, None, None] * s
        penalty = weighted + weighted.transpose(0, 1) - eye[:, :, None] * j
        return (weighted * s).sum() / 2 + temperature / 4 * penalty.square().sum()

    def constraint(flat: Tensor) -> Tensor:
        return (torch.einsum("x,xik->ik", pi, flat.reshape(K, K, K)) - j).flatten()

    zero = torch.zeros(K**3).double()
    c = torch.func.jacrev(constraint)(zero)
    h = torch.func.jacrev(torch.func.jacrev(objective))(zero)
    kkt = torch.cat([torch.cat([h, c.T], 1), torch.cat([c, c.new_zeros(K * K, K * K)], 1)])
    right = torch.cat([-torch.func.grad(objective)(zero), -constraint(zero)])
    expected = torch.linalg.solve(kkt, right)[: K**3].reshape(K, K, K)
    assert torch.allclose(s, expected, rtol=0, atol=1e-11)


def test_mve_at_infinity_is_the_written_row() -> None:
    pi, s = rows("infinite")
    edges = pi.outer(pi) / (pi[:, None] + pi)
    edges = edges - edges.diag().diag()
    c = torch.linalg.pinv(edges.sum(1).diag() - edges) @ jacobian(pi) / 2
    eye = torch.eye(K).double()
    for x, i in itertools.product(range(K), range(K)):
        row = (eye[x] - pi) / 2 if x == i else pi[i] / (pi[x] + pi[i]) * (c[i] - c[x])
        assert torch.allclose(s[x, i], row, rtol=0, atol=1e-13)


@pytest.mark.parametrize("temperature", [1e6, 1e14, 1e300])
def test_mve_goes_to_its_limit(temperature: float) -> None:
    (_, near), (_, limit) = rows(temperature), rows("infinite")
    assert torch.allclose(near, limit, rtol=0, atol=20 / temperature + 1e-12)


def second_moment(estimator: CategoricalEstimator) -> float:
    logits, sample, _ = case(4)
    pi = logits[0].softmax(-1)
    eye = torch.eye(K).double()
    s = torch.stack([grad(estimator, logits, sample, eye[i].expand(K, K)) for i in range(K)], 1)
    return torch.einsum("x,xik->", pi, s.square()).item()


def test_mve_has_less_variance_than_the_other_rule_exact_for_quadratic_losses() -> None:
    assert second_moment(MVE(temperature="infinite")) < 0.99 * second_moment(ZGR())
    taus = [second_moment(MVE(temperature=tau)) for tau in (0.0, 1.0, 10.0, 1e6)]
    assert taus == sorted(taus)


def table_gst(gap: Callable[[Tensor], Tensor], temperature: float, seed: int) -> tuple[Tensor, ...]:
    """Return logits, sample, g and the gradient, written with shifts as in the paper."""
    logits, sample, g = case(seed)
    leaf = logits.clone().requires_grad_()
    top = logits.amax(-1, True)
    p = (logits.softmax(-1) * sample).sum(-1, True)
    up = (top - logits) * sample
    down = (logits - top + gap(p)).clamp_min(0) * (1 - sample)
    ((leaf + up - down) / temperature).softmax(-1).backward(g)
    return logits, sample, g, torch.as_tensor(leaf.grad)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("gap", [0.0, 1.0, 3.0])
def test_gapped_straight_through_is_the_written_rule(gap: float, temperature: float) -> None:
    logits, sample, g, expected = table_gst(lambda p: torch.tensor(gap), temperature, seed=5)
    estimator = GappedStraightThrough(gap=gap, temperature=temperature)
    assert torch.allclose(grad(estimator, logits, sample, g), expected, rtol=0, atol=1e-14)


def test_the_gap_p_is_the_written_rule() -> None:
    logits, sample, g, expected = table_gst(lambda p: -torch.log1p(-p) / p, 0.7, seed=6)
    estimator = GappedStraightThrough(gap="p", temperature=0.7)
    assert torch.allclose(grad(estimator, logits, sample, g), expected, rtol=0, atol=1e-14)


def leads(estimator: SoftmaxJacobians, logits: Tensor, sample: Tensor) -> Tensor:
    """Return by how much the drawn class leads the others, in logits, temperature 1."""
    ((weight, q),) = estimator.mixture(logits.log_softmax(-1), sample, generator=None)
    assert weight == 1
    log_q = q.log()
    others = log_q.masked_fill(sample > 0, -torch.inf).amax(-1)
    return (log_q * sample).sum(-1) - others


def test_the_drawn_class_leads_by_the_gap() -> None:
    logits, sample, g = case(7)
    assert (
        leads(GappedStraightThrough(gap=2.0, temperature=1.0), logits, sample) > 2 - 1e-12
    ).all()
    top = torch.eye(K).double()[logits.argmax(-1)]
    still = GappedStraightThrough(gap=0.0, temperature=1.0)  # the drawn class leads already
    expected = grad(StraightThrough(temperature=1.0), logits, top, g)
    assert torch.equal(grad(still, logits, top, g), expected)
    wide = grad(GappedStraightThrough(gap=800.0, temperature=1.0), logits, sample, g)
    assert wide.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gap_p_goes_from_1_to_the_logarithm_of_the_rest(dtype: torch.dtype) -> None:
    logits = torch.tensor([0.0, -60.0], dtype=dtype).expand(2, 2)
    estimator = GappedStraightThrough(gap="p", temperature=1.0)
    likely, unlikely = leads(estimator, logits, torch.eye(2, dtype=dtype)).tolist()
    assert likely == pytest.approx(60, rel=1e-6)
    assert unlikely == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: StraightThrough(temperature=0.0), "temperature"),
        (lambda: ReinMax(temperature=0.9), "temperature"),
        (lambda: GumbelStraightThrough(temperature=math.nan), "temperature"),
        (lambda: GumbelRao(samples=0, temperature=1.0), "samples"),
        (lambda: GappedStraightThrough(gap=-1.0, temperature=1.0), "gap"),
        (lambda: GappedStraightThrough(gap="q", temperature=1.0), "gap"),  # type: ignore[arg-type]
        (lambda: MVE(temperature=-1.0), "temperature"),
        (lambda: MVE(temperature=math.inf), "temperature"),
        (lambda: AnnealedMVE(start=0.0, end=1.0), "start"),
        (lambda: AnnealedMVE(start=1.0, end=1e13), "end"),
        (lambda: ReinMaxRao(samples=1, temperature=-1.0), "temperature"),
        (lambda: ReinMaxCV(strength=math.inf, samples=1, temperature=1.0), "strength"),
    ],
)
def test_a_bad_hyperparameter_is_refused(make: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make()
