"""Score-function estimators by enumeration and quadrature: unbiased, and of the known variance."""

from __future__ import annotations

import pytest
import torch
from oracles import (
    CODES,
    LOSSES,
    THETA,
    forge,
    grid,
    moments,
    normal,
    over_codes,
    row_gradients,
    true_gradient,
)
from torch import Generator, Tensor

from stelab.estimators import (
    ARM,
    ARMS,
    Baseline,
    DisARM,
    LeaveOneOut,
    MultiEvaluation,
    NoBaseline,
    PerExampleLoss,
    Reinforce,
)
from stelab.estimators.score_function import antithetic, leave_one_out

CENTRES, PROBABILITIES = [-0.4, 0.45, 0.499], [0.02, 0.3, 0.5, 0.85]  # whole hundredths
CELLS = 1000


def logit(*p: float) -> Tensor:
    return torch.tensor(p, dtype=torch.float64).logit()


def squared_distance(p0: float) -> PerExampleLoss:
    return lambda b: (b - p0).square().sum(1)


class Constant(Baseline):
    def forward(self, s: Tensor) -> Tensor:
        return s.new_tensor(0.7)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("estimator", "draws"),
    [
        (Reinforce(baseline=NoBaseline()), 1),
        (Reinforce(baseline=Constant()), 1),
        (LeaveOneOut(samples=2), 2),
        (LeaveOneOut(samples=3), 3),
    ],
    ids=repr,
)
def test_unbiased_by_enumeration(
    monkeypatch: pytest.MonkeyPatch, estimator: MultiEvaluation, draws: int, loss: str
) -> None:
    mean, _ = over_codes(monkeypatch, estimator, LOSSES[loss], draws=draws)
    assert torch.allclose(mean, true_gradient(LOSSES[loss]), rtol=0, atol=1e-12)


def test_reinforce_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, f = Reinforce(baseline=Constant()), LOSSES["cubic"]
    monkeypatch.setattr(estimator, "sample", lambda s, generator: CODES)
    rows = row_gradients(estimator, f, THETA.expand_as(CODES))
    expected = (f(CODES) - 0.7)[:, None] * (CODES - torch.sigmoid(THETA))
    assert torch.allclose(rows, expected, rtol=0, atol=1e-14)


def test_leave_one_out_is_what_its_name_says() -> None:
    """Each of K codes with the mean loss of the others for a baseline."""
    losses, s = normal(4, 6, seed=0), normal(6, 2, 3, seed=1)
    bits = (normal(4, 6, 2, 3, seed=2) > 0).double()
    expected = torch.zeros_like(s)
    for k in range(4):
        others = (losses.sum(0) - losses[k]) / 3
        expected += (losses[k] - others)[:, None, None] * (bits[k] - torch.sigmoid(s)) / 4
    assert torch.allclose(leave_one_out(losses, bits, s), expected, rtol=0, atol=1e-14)


def test_two_codes_leave_one_out_need_no_probability() -> None:
    losses, s = normal(2, 6, seed=3), normal(6, 5, seed=4)
    bits = (normal(2, 6, 5, seed=5) > 0).double()
    expected = (losses[0] - losses[1])[:, None] * (bits[0] - bits[1]) / 2
    assert torch.allclose(leave_one_out(losses, bits, s), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("p0", CENTRES)
@pytest.mark.parametrize("p", PROBABILITIES)
def test_closed_forms_by_enumeration(monkeypatch: pytest.MonkeyPatch, p: float, p0: float) -> None:
    v, delta, f = p * (1 - p), 1 - 2 * p0, squared_distance(p0)
    mean, variance = over_codes(monkeypatch, Reinforce(baseline=NoBaseline()), f, logit(p))
    assert mean.item() == pytest.approx(delta * v, abs=1e-14)
    second = v * ((1 - p) * (1 - p0) ** 4 + p * p0**4)
    assert variance.item() == pytest.approx(second - (delta * v) ** 2, abs=1e-14)
    mean, variance = over_codes(monkeypatch, LeaveOneOut(samples=2), f, logit(p), draws=2)
    assert mean.item() == pytest.approx(delta * v, abs=1e-14)
    assert variance.item() == pytest.approx(delta**2 * v * (0.5 - v), abs=1e-14)


def integrated(
    monkeypatch: pytest.MonkeyPatch,
    estimator: MultiEvaluation,
    f: PerExampleLoss,
    s: Tensor,
    u: Tensor,
) -> tuple[Tensor, Tensor]:
    """The mean and variance over these equally likely uniforms."""
    forge(monkeypatch, "score_function", u)
    rows = row_gradients(estimator, f, s.expand(u.shape[-2], -1))
    return moments(rows, torch.full((len(rows),), 1 / len(rows), dtype=torch.float64))


@pytest.mark.parametrize("p0", CENTRES)
@pytest.mark.parametrize("p", PROBABILITIES)
def test_closed_forms_by_quadrature(monkeypatch: pytest.MonkeyPatch, p: float, p0: float) -> None:
    delta, m, f, u = 1 - 2 * p0, min(p, 1 - p), squared_distance(p0), grid(CELLS)[:, None]
    gradient = delta * p * (1 - p)
    mean, variance = integrated(monkeypatch, DisARM(), f, logit(p), u)
    assert mean.item() == pytest.approx(gradient, abs=1e-14)
    disarm = delta**2 * m * (1 - m) ** 2 * (0.5 - m)
    assert variance.item() == pytest.approx(disarm, abs=1e-14)
    mean, variance = integrated(monkeypatch, ARM(), f, logit(p), u)
    assert mean.item() == pytest.approx(gradient, abs=1e-14)
    arm = 2 * delta**2 / 3 * (1 / 8 - (0.5 - m) ** 3) - gradient**2
    assert variance.item() == pytest.approx(arm, abs=1e-6)  # the square is not a step function
    assert disarm <= arm


def plane(cells: int) -> Tensor:
    """Pairs of uniforms that fill the square."""
    return torch.cartesian_prod(grid(cells), grid(cells))


def product(b: Tensor) -> Tensor:
    return b[:, 0] - 0.4 * b[:, 1] + 2 * torch.cos(b[:, 0] + 2 * b[:, 1])


def as_copula(d: Tensor) -> Tensor:
    """The uniforms from which ARMS makes the exponentials d and 1 - d, of sum 1."""
    return torch.stack([torch.exp(-d), torch.exp(d - 1)])


def test_antithetic_estimators_of_two_bits_by_quadrature(monkeypatch: pytest.MonkeyPatch) -> None:
    s, u = logit(0.3, 0.85), plane(100)
    true = true_gradient(product, s)
    arm, arm_variance = integrated(monkeypatch, ARM(), product, s, u)
    disarm, disarm_variance = integrated(monkeypatch, DisARM(), product, s, u)
    assert torch.allclose(arm, true, rtol=0, atol=1e-12)
    assert torch.allclose(disarm, true, rtol=0, atol=1e-12)
    assert (disarm_variance < arm_variance).all()


@pytest.mark.parametrize("p", [(0.3, 0.85), (0.5, 0.02), (0.99, 0.6)])
def test_two_codes_of_arms_are_disarm(
    monkeypatch: pytest.MonkeyPatch, p: tuple[float, float]
) -> None:
    disarm = integrated(monkeypatch, DisARM(), product, logit(*p), plane(100))
    arms = integrated(monkeypatch, ARMS(samples=2), product, logit(*p), as_copula(plane(100)))
    for moment, expected in zip(arms, disarm, strict=True):
        assert torch.allclose(moment, expected, rtol=0, atol=1e-12)


def both(p: float, n: int) -> float:
    """P(b_1 = b_2 = 1) of the Dirichlet copula."""
    if p < 0.5:
        return max(2 * p ** (1 / (n - 1)) - 1, 0) ** (n - 1)
    return 2 * p - 1 + both(1 - p, n)


@pytest.mark.parametrize("n", [2, 3, 4, 10])
def test_codes_of_arms_have_the_copulas_law_and_its_correction(n: int) -> None:
    p, rows = torch.tensor([0.02, 0.3, 0.499, 0.501, 0.85, 0.97], dtype=torch.float64), 50_000
    codes: list[Tensor] = []

    def f(b: Tensor) -> Tensor:
        codes.append(b)
        return torch.cos(3 * b.sum(1)) + b[:, 0]

    s = p.logit().expand(rows, -1)
    estimate = row_gradients(ARMS(samples=n), f, s, generator=Generator().manual_seed(0))
    bits = torch.stack(codes)
    assert bits.shape == (n, rows, len(p))
    spread = (p * (1 - p) / rows).sqrt()
    assert ((bits.mean(1) - p).abs() < 4 * spread).all()
    joint = torch.tensor([both(x, n) for x in p.tolist()], dtype=torch.float64)
    frequency = (bits[0] * bits[1]).mean(0)
    assert ((frequency - joint).abs() <= 4 * (joint * (1 - joint) / rows).sqrt()).all()
    losses = torch.cos(3 * bits.sum(2)) + bits[:, :, 0]
    corrected = leave_one_out(losses, bits, s) * p * (1 - p) / (p - joint)
    assert torch.allclose(estimate, corrected, rtol=1e-12, atol=1e-14)


def test_antithetic_codes_mirror_one_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    s, u = logit(0.02, 0.3, 0.5, 0.85), grid(CELLS)[:, None]
    forge(monkeypatch, "score_function", u)
    kept, bits, twin = antithetic(s.expand(CELLS, -1), None)
    p = torch.sigmoid(s)
    assert torch.equal(kept, u)
    assert torch.equal(bits, (u < p).double())
    assert torch.equal(twin, (u > 1 - p).double())


@pytest.mark.parametrize("kind", [LeaveOneOut, ARMS])
def test_one_sample_is_refused(kind: type[LeaveOneOut | ARMS]) -> None:
    with pytest.raises(ValueError, match="samples"):
        kind(samples=1)
