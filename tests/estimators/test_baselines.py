"""Baselines: what they predict, when they learn, and what they are worth."""

from __future__ import annotations

import pytest
import torch
from oracles import BITS, CODES, THETA, estimates, law, mlp, normal, over_codes, row_gradients
from torch import Tensor

from stelab.estimators import (
    Baseline,
    LearnedBaseline,
    MovingAverage,
    NoBaseline,
    Reinforce,
)


def filled(value: float) -> Tensor:
    return torch.full((4,), value, dtype=torch.float64)


def test_no_baseline_is_0() -> None:
    assert NoBaseline()(THETA[None]).item() == 0
    assert not NoBaseline().state_dict()


def test_the_moving_average_by_hand() -> None:
    """Weights .25, .25 * .75, ... of the last loss, the one before, ..., divided by their sum."""
    baseline = MovingAverage(decay=0.75)
    assert baseline(THETA).item() == 0
    baseline.learn(THETA, filled(8.0))
    assert baseline(THETA).item() == 8
    baseline.learn(THETA, torch.tensor([0.0, 4.0]))
    expected = (0.25 * 2 + 0.25 * 0.75 * 8) / (0.25 + 0.25 * 0.75)
    assert baseline(THETA).item() == pytest.approx(expected, rel=1e-6)
    assert baseline(THETA.float()).dtype == torch.float32


def test_the_moving_average_is_state() -> None:
    old, new = MovingAverage(decay=0.75), MovingAverage(decay=0.75)
    old.learn(THETA, filled(3.0))
    new.load_state_dict(old.state_dict())
    for baseline in (old, new):
        baseline.learn(THETA, filled(5.0))
    assert new(THETA) == old(THETA)


def test_no_decay_is_the_last_loss() -> None:
    baseline = MovingAverage(decay=0.0)
    for value in (3.0, 5.0):
        baseline.learn(THETA, filled(value))
    assert baseline(THETA).item() == 5


def test_reinforce_subtracts_before_the_baseline_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    baseline = MovingAverage(decay=0.5)
    estimator = Reinforce(baseline=baseline)
    baseline.learn(THETA, filled(2.0))
    monkeypatch.setattr(estimator, "sample", lambda s, generator: CODES)
    rows = row_gradients(estimator, mlp, THETA.expand_as(CODES))
    expected = (mlp(CODES) - 2)[:, None] * (CODES - torch.sigmoid(THETA))
    assert torch.allclose(rows, expected, rtol=0, atol=1e-14)
    assert baseline(THETA).item() == pytest.approx((2 + 2 * mlp(CODES).mean().item()) / 3)


@pytest.mark.parametrize("p0", [-0.4, 0.45])
@pytest.mark.parametrize("p", [0.02, 0.5, 0.85])
def test_the_variance_for_one_bit(monkeypatch: pytest.MonkeyPatch, p: float, p0: float) -> None:
    c, s = 0.6, torch.tensor([p], dtype=torch.float64).logit()
    baseline = MovingAverage(decay=0.5)
    baseline.learn(s, filled(c))
    estimator = Reinforce(baseline=baseline)
    _, variance = over_codes(monkeypatch, estimator, lambda b: (b - p0).square().sum(1), s)
    rows = torch.tensor([-(p0**2 - c) * p, ((1 - p0) ** 2 - c) * (1 - p)])
    expected = p * (1 - p) * (rows[1] - rows[0]).square()
    assert variance.item() == pytest.approx(expected.item(), rel=1e-6)


def learned(learning_rate: float = 1e-2) -> LearnedBaseline:
    torch.manual_seed(0)
    return LearnedBaseline(bits=BITS, hidden=10, learning_rate=learning_rate).double()


def test_the_learned_baseline_gets_the_gradient_of_its_squared_error() -> None:
    baseline, s, losses = learned(), normal(20, BITS, seed=1), normal(20, seed=2)
    baseline.learn(s, losses)
    twin = learned()
    for parameter in twin.parameters():
        parameter.requires_grad_(True)
    (losses - twin.net.layers(s).squeeze(1)).square().mean().backward()
    for parameter, expected in zip(baseline.parameters(), twin.parameters(), strict=True):
        assert not parameter.requires_grad
        assert parameter.grad is not None
        assert expected.grad is not None
        assert torch.allclose(parameter.grad, expected.grad, rtol=0, atol=1e-14)


def test_the_model_s_loss_gives_the_learned_baseline_nothing() -> None:
    baseline = learned()
    estimator = Reinforce(baseline=baseline)
    s = normal(20, BITS, seed=3).requires_grad_()
    loss = estimator.loss(s, mlp, generator=torch.Generator().manual_seed(0))
    before = [p.grad.clone() for p in baseline.parameters() if p.grad is not None]
    assert len(before) == 4
    loss.backward()
    for parameter, grad in zip(baseline.parameters(), before, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, grad)


def spread(estimator: Reinforce) -> float:
    return estimates(estimator, mlp, n=20_000, seed=9).var(0).sum().item()


def test_learning_lowers_the_variance() -> None:
    estimator = Reinforce(baseline=learned())
    optimizer = estimator.variance_optimizer()
    assert optimizer is not None
    assert optimizer.param_groups[0]["lr"] == 1e-2
    for step in range(300):
        estimates(estimator, mlp, n=64, seed=step)
        optimizer.step()
    trained, plain = spread(estimator), spread(Reinforce(baseline=NoBaseline()))
    assert trained < 0.75 * plain
    mean = law(torch.sigmoid(THETA)) @ mlp(CODES)
    assert estimator.baseline(THETA[None]).item() == pytest.approx(mean.item(), abs=0.2)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan"), "0.5"])
def test_a_bad_decay_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        MovingAverage(decay=decay)


def test_what_else_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden"):
        LearnedBaseline(bits=3, hidden=0, learning_rate=1.0)
    with pytest.raises(NotImplementedError, match="Baseline must define forward"):
        Baseline()(THETA)
