"""Measurements against closed forms, and sampled ones against enumerated ones."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from stelab.estimators import (
    ARM,
    DARN,
    ApproxSign,
    BernoulliStraightThrough,
    DisARM,
    Estimator,
    Exact,
    GumbelRao,
    Identity,
    LeaveOneOut,
    MovingAverage,
    NoBaseline,
    Rebar,
    Reinforce,
    ReinMax,
    ZeroGradient,
)
from stelab.lab.gradients import (
    Cubic,
    Enumeration,
    Linear,
    Measurement,
    MLPLoss,
    Problem,
    Quadratic,
    Toy,
    adapt,
    measure,
    references,
)
from stelab.lab.gradients.measure import estimates, estimates_of_codes

ST = BernoulliStraightThrough(slope="sigmoid", temperature=1.0)
LINEAR = Linear(bits=6, spread=1.0, seed=0)
QUADRATIC = Quadratic(bits=6, spread=1.0, seed=0)
CUBIC = Cubic(bits=6, spread=1.0, seed=0)
MLP = MLPLoss(bits=6, hidden=16, spread=1.0, seed=0)


def against_logistic(
    estimator: Estimator, problem: Problem, *, samples: int = 20_000
) -> Measurement:
    enumeration = Enumeration(problem)
    exact = {"logistic": enumeration.gradient(torch.sigmoid)}
    generator = torch.Generator().manual_seed(0)
    return measure(estimator, enumeration, exact, samples=samples, generator=generator)["logistic"]


@pytest.mark.parametrize(
    ("estimator", "problem", "exact"),
    [
        (ST, LINEAR, True),
        (DARN(), LINEAR, True),
        (ReinMax(temperature=1.0), LINEAR, True),
        (ReinMax(temperature=1.0), QUADRATIC, True),
        (ST, QUADRATIC, False),
        (DARN(), QUADRATIC, False),
        (ReinMax(temperature=1.3), QUADRATIC, False),
        (ReinMax(temperature=1.0), CUBIC, False),
        (Exact(bits=6), MLP, True),
    ],
)
def test_bias_is_zero_exactly_where_the_theory_says(
    estimator: Estimator, problem: Problem, exact: bool
) -> None:
    found = against_logistic(estimator, problem)
    assert found.samples == 0  # nothing was sampled
    assert found.bias_low == found.bias == found.bias_high
    assert (found.bias < 1e-12) == exact
    if exact:
        assert found.cosine == pytest.approx(1, abs=1e-12)


def test_the_exact_estimator_has_no_variance() -> None:
    found = against_logistic(Exact(bits=6), MLP)
    assert (found.variance, found.snr) == (0, math.inf)
    assert found.evaluations == 65


def test_straight_through_on_one_bit_in_closed_form() -> None:
    toy = Toy(bits=1, spread=1.0, target=0.45, seed=1)
    p = torch.sigmoid(toy.logits).item()
    gradient = 0.1 * p * (1 - p)
    found = against_logistic(ST, toy)
    assert found.mean.item() == pytest.approx(2 * (p - 0.45) * p * (1 - p), abs=1e-14)
    assert found.variances.item() == pytest.approx(4 * (p * (1 - p)) ** 3, abs=1e-14)
    assert found.bias == pytest.approx(abs(found.mean.item() - gradient) / gradient)
    assert found.variance == pytest.approx(found.variances.item() / gradient**2)
    assert found.mse == pytest.approx(found.bias**2 + found.variance)
    assert found.scaled_bias == pytest.approx(2 if found.mean.item() < 0 else 0, abs=1e-12)


@pytest.mark.parametrize("estimator", [LeaveOneOut(samples=2), DisARM(), ARM()], ids=repr)
def test_sampled_variance_on_one_bit_in_closed_form(estimator: Estimator) -> None:
    toy = Toy(bits=1, spread=1.0, target=0.2, seed=1)
    p, delta = torch.sigmoid(toy.logits).item(), 1 - 2 * 0.2
    m = min(p, 1 - p)
    variance = {
        "LeaveOneOut": delta**2 * p * (1 - p) * (0.5 - p * (1 - p)),
        "DisARM": delta**2 * m * (1 - m) ** 2 * (0.5 - m),
        "ARM": 2 * delta**2 / 3 * (1 / 8 - (0.5 - m) ** 3) - (delta * p * (1 - p)) ** 2,
    }[type(estimator).__name__]
    found = against_logistic(estimator, toy, samples=200_000)
    assert found.samples == 200_000
    assert found.variances.item() == pytest.approx(variance, rel=0.02)
    assert found.bias_low == 0
    assert found.bias < 0.02


def test_what_is_enumerated_is_what_would_be_sampled() -> None:
    enumeration, estimator = Enumeration(MLP), ReinMax(temperature=1.5)
    exact = against_logistic(estimator, MLP)
    drawn = estimates(estimator, enumeration, 40_000, torch.Generator().manual_seed(0))
    z = (drawn.mean(0) - exact.mean) / (exact.variances / 40_000).sqrt()
    assert z.abs().max() < 4
    assert drawn.var(0).sum().item() == pytest.approx(exact.variances.sum().item(), rel=0.03)
    cosines = torch.nn.functional.cosine_similarity(drawn, exact.exact[None], dim=2)
    assert cosines.mean().item() == pytest.approx(exact.sample_cosine, abs=0.01)


def test_the_estimate_of_a_code_is_the_one_that_trains() -> None:
    enumeration = Enumeration(MLP)
    by_code = estimates_of_codes(ST, enumeration)
    drawn = estimates(ST, enumeration, 50, torch.Generator().manual_seed(0))
    for one in drawn[:, 0]:
        assert (by_code[:, 0] - one).abs().max(1).values.min() < 1e-14


@pytest.mark.parametrize(
    "estimator",
    [
        Reinforce(baseline=NoBaseline()),
        LeaveOneOut(samples=4),
        DisARM(),
        Rebar(strength=1.0, temperature=0.5, learning_rate=1e-2),
    ],
    ids=lambda e: type(e).__name__,
)
def test_an_unbiased_estimator_shows_no_bias(estimator: Estimator) -> None:
    found = against_logistic(estimator, MLP)
    assert found.bias_low == 0
    assert found.bias_high < 0.2
    plain = (found.mean - found.exact).norm() / found.exact.norm()
    assert found.bias < plain  # which counts the sampling error as bias


def test_a_biased_one_that_must_be_sampled_does() -> None:
    found = against_logistic(GumbelRao(samples=2, temperature=1.0), MLP)
    assert found.samples == 20_000
    assert 0.05 < found.bias_low < found.bias < found.bias_high


def test_scaling_takes_a_factor_out() -> None:
    plain, loud = against_logistic(ST, MLP), against_logistic(_Louder(), MLP)
    assert loud.bias > 5
    assert loud.scaled_bias == pytest.approx(plain.scaled_bias, abs=1e-12)
    assert loud.scaled_variance == pytest.approx(plain.scaled_variance, rel=1e-12)


class _Louder(BernoulliStraightThrough):
    def __init__(self) -> None:
        super().__init__(slope="sigmoid", temperature=1.0)

    def weight(self, s: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
        return 10 * super().weight(s, bits)


def test_no_gradient_is_a_bias_of_one_and_has_no_scale() -> None:
    found = against_logistic(ZeroGradient(), MLP)
    assert (found.bias, found.variance, found.cosine) == (1, 0, 0)
    assert math.isnan(found.scaled_bias)


def test_a_surrogate_is_measured_against_its_own_noise_too() -> None:
    assert set(references(Identity())) == {"logistic"}
    assert set(references(ReinMax(temperature=1.0))) == {"logistic"}
    laws = references(ApproxSign())
    assert set(laws) == {"logistic", "own"}
    enumeration = Enumeration(LINEAR)
    exact = {name: enumeration.gradient(law) for name, law in laws.items()}
    generator = torch.Generator().manual_seed(0)
    found = measure(ApproxSign(), enumeration, exact, samples=2, generator=generator)
    assert found["own"].bias < 1e-12  # a linear loss does not see which bits came
    assert found["logistic"].bias > 0.1


def test_measuring_changes_nothing() -> None:
    estimator = Reinforce(baseline=MovingAverage(decay=0.9))
    before = copy.deepcopy(estimator.state_dict())
    against_logistic(estimator, MLP, samples=10)
    assert estimator.state_dict() == before


def test_adapting_lowers_the_variance() -> None:
    enumeration = Enumeration(MLP)
    for estimator in (
        Reinforce(baseline=MovingAverage(decay=0.9)),
        Rebar(strength=0.0, temperature=0.5, learning_rate=1e-2),
    ):
        before = against_logistic(estimator, MLP).variance
        adapt(estimator, enumeration, steps=200, generator=torch.Generator().manual_seed(0))
        assert against_logistic(estimator, MLP).variance < 0.95 * before
