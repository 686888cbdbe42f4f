"""Control variates: unbiased by quadrature, coupled, and tuned by the variance's own gradient."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from oracles import (
    BITS,
    CODES,
    LOSSES,
    THETA,
    estimates,
    forge,
    grid,
    mlp,
    normal,
    over_codes,
    quadratic,
    row_gradients,
    true_gradient,
)
from torch import Generator, Tensor, nn

from stelab.estimators import (
    DoubleControlVariates,
    LeaveOneOut,
    MultiEvaluation,
    MuProp,
    Rebar,
    Relax,
)
from stelab.estimators.control_variates import coupled_estimate, value_and_slope


def rebar(strength: float = 0.7, temperature: float = 0.5) -> Rebar:
    return Rebar(strength=strength, temperature=temperature, learning_rate=2e-2).double()


def relax(bits: int = BITS) -> Relax:
    """With a network that is not 0."""
    estimator = Relax(bits=bits, hidden=6, temperature=0.5, learning_rate=2e-2).double()
    for parameter in estimator.net.parameters():
        parameter.copy_(normal(*parameter.shape, seed=1))
    return estimator


def double(strength: float = -0.8) -> DoubleControlVariates:
    return DoubleControlVariates(strength=strength, learning_rate=2e-2).double()


TUNED: dict[str, Callable[[], MultiEvaluation]] = {
    "rebar": rebar,
    "relax": relax,
    "double cv": double,
}


@pytest.mark.parametrize("loss", LOSSES)
def test_muprop_is_unbiased_by_enumeration(monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    mean, variance = over_codes(monkeypatch, MuProp(), LOSSES[loss])
    assert torch.allclose(mean, true_gradient(LOSSES[loss]), rtol=0, atol=1e-12)
    assert (variance.max() < 1e-25) == (loss == "linear")  # which its expansion explains


@pytest.mark.parametrize("strength", [0.0, -0.8, 1.3])
@pytest.mark.parametrize("loss", LOSSES)
def test_double_cv_is_unbiased_by_enumeration(
    monkeypatch: pytest.MonkeyPatch, loss: str, strength: float
) -> None:
    mean, _ = over_codes(monkeypatch, double(strength), LOSSES[loss], draws=2)
    assert torch.allclose(mean, true_gradient(LOSSES[loss]), rtol=0, atol=1e-12)


def test_double_cv_without_strength_is_leave_one_out() -> None:
    expected = estimates(LeaveOneOut(samples=2), mlp, n=1000)
    assert torch.allclose(estimates(double(0.0), mlp, n=1000), expected, rtol=0, atol=1e-14)


def test_double_cv_of_full_strength_explains_a_linear_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, variance = over_codes(monkeypatch, double(-1.0), LOSSES["linear"], draws=2)
    _, without = over_codes(monkeypatch, double(0.0), LOSSES["linear"], draws=2)
    assert variance.max() < 1e-25 < without.min()


def test_muprop_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, p = MuProp(), torch.sigmoid(THETA)
    monkeypatch.setattr(estimator, "sample", lambda s, generator: CODES)
    rows = row_gradients(estimator, mlp, THETA.expand_as(CODES))
    slope = torch.func.grad(lambda b: mlp(b[None])[0])(p)
    explained = mlp(p[None]) + (CODES - p) @ slope
    expected = (mlp(CODES) - explained)[:, None] * (CODES - p) + slope * p * (1 - p)
    assert torch.allclose(rows, expected, rtol=0, atol=1e-14)


def written(f: Callable[[Tensor], Tensor], c: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """[f(b) - c(z~)](b - p) + d/ds [c(z) - c(z~)] as the papers write it, u[1] for z~."""
    s = THETA.expand(u.shape[1:]).clone().requires_grad_()
    p, z = torch.sigmoid(s), s + torch.logit(u[0])
    bits = (z > 0).double()
    # The part of (0, 1) that gives the bit; mirrored for b = 0, like the code.
    conditional = s + torch.logit(torch.where(bits == 1, u[1] * p + 1 - p, (1 - u[1]) * (1 - p)))
    (slope,) = torch.autograd.grad((c(z) - c(conditional)).sum(), s, retain_graph=True)
    return ((f(bits) - c(conditional))[:, None] * (bits - p) + slope).detach()


def test_rebar_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    u = torch.rand(2, 200, BITS, dtype=torch.float64)
    forge(monkeypatch, "control_variates", *u)
    rows = row_gradients(rebar(), mlp, THETA.expand(200, -1))
    expected = written(mlp, lambda z: 0.7 * mlp(torch.sigmoid(z / 0.5)), u)
    assert torch.allclose(rows, expected, rtol=1e-6, atol=1e-6)  # 0.7 was rounded to float32


def test_relax_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    u, estimator = torch.rand(2, 200, BITS, dtype=torch.float64), relax()
    forge(monkeypatch, "control_variates", *u)
    rows = row_gradients(estimator, mlp, THETA.expand(200, -1))
    net = estimator.net.layers
    expected = written(mlp, lambda z: mlp(torch.sigmoid(z / 0.5)) + net(z).squeeze(1), u)
    assert torch.allclose(rows, expected, rtol=1e-6, atol=1e-6)


def test_relax_starts_as_rebar_of_full_strength() -> None:
    fresh = Relax(bits=BITS, hidden=6, temperature=0.5, learning_rate=1e-3).double()
    assert torch.equal(estimates(fresh, mlp, n=1000), estimates(rebar(1.0), mlp, n=1000))


CELLS = 400


@pytest.mark.parametrize("p", [0.02, 0.3, 0.5, 0.85])
@pytest.mark.parametrize(
    "estimator", [rebar(), rebar(1.3, 2.0), relax(1)], ids=["rebar", "hot rebar", "relax"]
)
def test_unbiased_for_one_bit_by_quadrature(
    monkeypatch: pytest.MonkeyPatch, estimator: MultiEvaluation, p: float
) -> None:
    u, v = torch.cartesian_prod(grid(CELLS), grid(CELLS)).T[..., None]
    forge(monkeypatch, "control_variates", u, v)
    s = torch.tensor([p], dtype=torch.float64).logit()
    rows = row_gradients(estimator, lambda b: (3 * b).sin().sum(1), s.expand(len(u), -1))
    expected = p * (1 - p) * torch.sin(torch.tensor(3.0))
    assert rows.mean().item() == pytest.approx(expected.item(), abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_both_noisy_logits_have_the_sign_of_the_bits(dtype: torch.dtype) -> None:
    codes: list[Tensor] = []
    noisy: list[Tensor] = []

    def record(at: Tensor, into: list[Tensor]) -> Tensor:
        into.append(at.detach())
        return at.sum(1)

    ends = torch.tensor([-1e4, -100.0, -20.0, 20.0, 100.0, 1e4], dtype=dtype)
    s = torch.cat([10 * normal(20_000, 6, seed=2).to(dtype), ends.expand(2000, 6)])
    coupled_estimate(
        s,
        lambda b: record(b, codes),
        network=lambda z: record(z, noisy),
        temperature=torch.ones((), dtype=dtype),
        generator=Generator().manual_seed(0),
    )
    bits, (z, conditional) = codes[0], noisy
    assert torch.equal((z > 0).to(dtype), bits)
    assert torch.equal((conditional > 0).to(dtype), bits)
    assert not torch.equal(z, conditional)


def mean_square(estimator: MultiEvaluation) -> float:
    """What the parameters minimize, with the same draws at every call."""
    return estimates(estimator, mlp, n=64, seed=5).square().sum(1).mean().item()


@pytest.mark.parametrize("name", TUNED)
def test_parameters_get_the_gradient_of_the_mean_square(name: str) -> None:
    estimator, h = TUNED[name](), 1e-4
    mean_square(estimator)
    for parameter in estimator.parameters():
        assert parameter.grad is not None
        left = parameter.grad.clone().flatten()
        for i in range(min(parameter.numel(), 5)):
            flat, ends = parameter.flatten(), []
            for sign in (1, -1):
                moved = copy.deepcopy(estimator)
                names = {n: p for n, p in moved.named_parameters()}
                key = next(n for n, p in estimator.named_parameters() if p is parameter)
                names[key].view(-1)[i] = flat[i] + sign * h
                ends.append(mean_square(moved))
            difference = (ends[0] - ends[1]) / (2 * h)
            assert left[i].item() == pytest.approx(difference, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", TUNED)
def test_the_model_s_loss_gives_them_nothing(name: str) -> None:
    estimator, decoder = TUNED[name](), nn.Linear(BITS, 3).double()
    s = normal(20, BITS, seed=3).requires_grad_()
    loss = estimator.loss(s, lambda b: decoder(b).square().sum(1), generator=Generator())
    assert all(p.grad is None for p in decoder.parameters())
    before = [p.grad.clone() for p in estimator.parameters() if p.grad is not None]
    assert len(before) == len([*estimator.parameters()])
    loss.backward()
    assert all(p.grad is not None for p in decoder.parameters())
    for parameter, grad in zip(estimator.parameters(), before, strict=True):
        assert not parameter.requires_grad
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, grad)


def spread(estimator: MultiEvaluation) -> float:
    return estimates(copy.deepcopy(estimator), mlp, n=20_000, seed=9).var(0).sum().item()


@pytest.mark.parametrize(
    ("estimator", "factor"),
    [(rebar(0.0, 2.0), 0.5), (double(0.0), 0.6), (relax(), 0.75)],
    ids=["rebar", "double cv", "relax"],
)
def test_training_them_lowers_the_variance(estimator: MultiEvaluation, factor: float) -> None:
    before, optimizer = spread(estimator), estimator.variance_optimizer()
    assert optimizer is not None
    assert optimizer.param_groups[0]["lr"] == 2e-2
    assert {*optimizer.param_groups[0]["params"]} == {*estimator.parameters()}
    for step in range(300):
        estimates(estimator, mlp, n=64, seed=step)
        optimizer.step()
    assert spread(estimator) < factor * before


def test_the_strength_of_double_cv_goes_below_0() -> None:
    estimator = double(0.0)
    estimates(estimator, quadratic, n=1000)
    assert estimator.strength.grad is not None
    assert estimator.strength.grad > 0  # so that a descent takes it below


def test_value_and_slope() -> None:
    at, weight = normal(7, BITS, seed=4), normal(BITS, seed=5).requires_grad_()
    value, slope = value_and_slope(lambda b: (b @ weight).sin(), at)
    inside = (at @ weight).detach()
    assert torch.equal(value, inside.sin())
    assert torch.allclose(slope, inside.cos()[:, None] * weight, rtol=0, atol=1e-15)
    assert weight.grad is None
    value.sum().backward()
    assert weight.grad is not None
    assert torch.allclose(weight.grad, inside.cos() @ at, rtol=0, atol=1e-14)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature"):
        Rebar(strength=1.0, temperature=0.0, learning_rate=1e-3)
    with pytest.raises(ValueError, match="strength"):
        Rebar(strength=float("nan"), temperature=1.0, learning_rate=1e-3)
    with pytest.raises(ValueError, match="hidden"):
        Relax(bits=3, hidden=0, temperature=1.0, learning_rate=1e-3)
    with pytest.raises(ValueError, match="learning_rate"):
        DoubleControlVariates(strength=0.0, learning_rate=0.0)
