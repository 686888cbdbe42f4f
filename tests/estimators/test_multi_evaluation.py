"""Multi-evaluation estimators have no bias, tell the loss, and leave f its ordinary gradient."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from members import MULTI, build
from oracles import (
    BITS,
    CODES,
    LOSSES,
    THETA,
    backward,
    codes,
    estimates,
    law,
    mlp,
    normal,
    row_gradients,
    true_gradient,
    z_scores,
)
from torch import Tensor

from stelab.estimators import (
    ARM,
    ARMS,
    DoubleControlVariates,
    LeaveOneOut,
    MovingAverage,
    MultiEvaluation,
    PerExampleLoss,
    Rebar,
    Reinforce,
    Relax,
)

N_ROWS = 100_000


def reinforce_with_a_moving_average() -> Reinforce:
    baseline = MovingAverage(decay=0.5)
    baseline.learn(THETA, torch.full((3,), 0.8))
    return Reinforce(baseline=baseline)


def relax_with_a_network(bits: int) -> Relax:
    estimator = Relax(bits=bits, hidden=10, temperature=0.7, learning_rate=1e-3)
    for parameter in estimator.net.parameters():
        parameter.copy_(normal(*parameter.shape, seed=7) / 2)
    return estimator


@cache
def _of_files(bits: int) -> dict[str, MultiEvaluation]:
    built = {name: build(name, bits) for name in MULTI}
    return {name: e for name, e in built.items() if isinstance(e, MultiEvaluation)}


def every(bits: int) -> dict[str, MultiEvaluation]:
    """All of conf/estimator/, those that learn not at their neutral start, and two more sizes."""
    return copy.deepcopy(_of_files(bits)) | {
        "reinforce_moving_average": reinforce_with_a_moving_average(),
        "rebar": Rebar(strength=0.7, temperature=0.5, learning_rate=1e-3),
        "relax": relax_with_a_network(bits),
        "double_cv": DoubleControlVariates(strength=-0.8, learning_rate=1e-3),
        "loo4": LeaveOneOut(samples=4),
        "arms2": ARMS(samples=2),
    }


NAMES = [*every(BITS)]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
# Of how many codes, the first that f sees, the loss is the mean; of one where nothing is said.
AVERAGED = {"loo": 2, "loo4": 4, "arm": 2, "disarm": 2, "arms2": 2, "arms": 4, "double_cv": 2}


def check_no_bias(rows: Tensor, expected: Tensor) -> None:
    spread = rows.std(0)
    if spread.max() < 1e-12:  # exact
        assert torch.allclose(rows, expected.expand_as(rows), rtol=0, atol=1e-12)
    else:
        assert (spread > 1e-4).all()
        assert (z_scores(rows, expected).abs() < 4).all()


@pytest.mark.parametrize("loss", ["quadratic", "mlp"])
@pytest.mark.parametrize("name", NAMES)
def test_the_mean_is_the_gradient(name: str, loss: str) -> None:
    f = LOSSES[loss]
    check_no_bias(estimates(every(BITS)[name], f, n=N_ROWS), true_gradient(f))


def square_loss(b: Tensor) -> Tensor:
    flat = b.flatten(1)
    return mlp(flat[:, 1:]) + 2 * flat[:, 0] * flat[:, 3]


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_is_the_gradient_for_codes_of_two_dimensions(name: str) -> None:
    s = normal(2, 3, seed=8)
    rows = estimates(every(6)[name], square_loss, s, n=N_ROWS // 2)
    assert rows.shape == (N_ROWS // 2, 2, 3)
    check_no_bias(rows, true_gradient(square_loss, s))


def aimed(target: Tensor) -> PerExampleLoss:
    return lambda b: (b.sum(1) - target).square()


@pytest.mark.parametrize("name", NAMES)
def test_every_row_has_its_own_logits_and_loss(name: str) -> None:
    s, targets, many = normal(4, BITS, seed=9), normal(4, seed=13), 5000
    f = aimed(targets.repeat_interleave(many))
    generator = torch.Generator().manual_seed(1)
    rows = row_gradients(every(BITS)[name], f, s.repeat_interleave(many, 0), generator=generator)
    for logits, target, group in zip(s, targets, rows.split(many), strict=True):
        check_no_bias(group, true_gradient(aimed(target), logits))


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_the_mean_of_f_at_drawn_bits(name: str) -> None:
    q, losses = law(torch.sigmoid(THETA)), mlp(CODES)
    mean = (q @ losses).item()
    deviation = (q @ losses.square() - mean**2).sqrt().item()
    s = THETA.expand(N_ROWS, -1)
    loss = every(BITS)[name].loss(s, mlp, generator=torch.Generator().manual_seed(2))
    assert loss.dim() == 0
    assert abs(loss.item() - mean) < 4 * deviation / N_ROWS**0.5


@pytest.mark.parametrize("name", NAMES)
def test_f_gets_its_ordinary_gradient_and_nothing_else(name: str) -> None:
    weight = normal(BITS, 3, seed=10).requires_grad_()
    seen: list[Tensor] = []

    def f(b: Tensor) -> Tensor:
        seen.append(b.detach().clone())
        return torch.tanh(b @ weight).sum(1)

    s = normal(6, BITS, seed=11).requires_grad_()
    loss = every(BITS)[name].loss(s, f, generator=torch.Generator().manual_seed(3))
    assert weight.grad is None
    drawn = torch.cat(seen[: AVERAGED.get(name, 1)])
    assert ((drawn == 0) | (drawn == 1)).all()
    ordinary = torch.tanh(drawn @ weight).sum(1).mean()
    assert loss.item() == pytest.approx(ordinary.item(), abs=1e-15)
    loss.backward()
    (expected,) = torch.autograd.grad(ordinary, weight)
    assert weight.grad is not None
    assert torch.allclose(weight.grad, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_losses_give_f_its_weighed_gradient(name: str) -> None:
    weight = normal(BITS, 3, seed=10).requires_grad_()
    weights = normal(6, seed=14)
    seen: list[Tensor] = []

    def f(b: Tensor) -> Tensor:
        seen.append(b.detach().clone())
        return torch.tanh(b @ weight).sum(1)

    s = normal(6, BITS, seed=11).requires_grad_()
    losses = every(BITS)[name].losses(s, f, generator=torch.Generator().manual_seed(3))
    draws = seen[: AVERAGED.get(name, 1)]
    ordinary = torch.stack([torch.tanh(drawn @ weight).sum(1) for drawn in draws]).mean(0)
    assert torch.allclose(losses, ordinary, rtol=0, atol=1e-15)
    (got,) = torch.autograd.grad(weights @ losses, weight)
    (expected,) = torch.autograd.grad(weights @ ordinary, weight)
    assert torch.allclose(got, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_carries_an_upstream_gradient(name: str) -> None:
    def run(scale: float) -> Tensor:
        s = THETA.expand(7, -1).clone().requires_grad_()
        loss = every(BITS)[name].loss(s, mlp, generator=torch.Generator().manual_seed(4))
        (scale * loss).backward()
        assert s.grad is not None
        return s.grad

    assert torch.equal(run(4.0), 4 * run(1.0))


@pytest.mark.parametrize("name", NAMES)
def test_there_is_no_way_back_through_the_bits(name: str) -> None:
    s = THETA.expand(2, -1).clone().requires_grad_()
    estimator = every(BITS)[name]
    message = rf"{type(estimator).__name__} has no backward rule .* Train through binarizer\.loss"
    with pytest.raises(RuntimeError, match=message):
        estimator(s).sum().backward()


@pytest.mark.parametrize("name", NAMES)
def test_forward_draws_takes_and_thresholds(name: str) -> None:
    estimator, n = every(BITS)[name], 20_000
    given = CODES.clone()
    assert torch.equal(estimator(THETA.expand_as(given), bits=given), given)
    p = torch.sigmoid(THETA)
    bits = estimator(THETA.expand(n, -1), generator=torch.Generator().manual_seed(5))
    assert ((bits.mean(0) - p).abs() < 4 * (p * (1 - p) / n).sqrt()).all()
    inf, nan = float("inf"), float("nan")
    s = torch.tensor([[0.0, -0.0, 1e-45, -1e-45, inf, -inf, nan, 1e4, -1e4]])
    assert estimator.eval()(s).tolist() == [[0, 0, 1, 0, 1, 0, 0, 1, 0]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_certain_bits_have_no_gradient(name: str, dtype: torch.dtype) -> None:
    estimator = every(BITS)[name]
    if isinstance(estimator, Relax):  # the network's slope is no loss's: begin as REBAR
        estimator = Relax(bits=BITS, hidden=10, temperature=0.7, learning_rate=1e-3)
    s = torch.tensor([1e4, -1e4, 100.0, -100.0, 1e4]).to(dtype).expand(50, BITS)
    generator = torch.Generator().manual_seed(6)
    rows = row_gradients(
        estimator, lambda b: (b.sum(1) - 0.5).square(), s.clone(), generator=generator
    )
    assert rows.dtype == dtype
    assert rows.double().abs().max() < 1e-12
    for parameter in estimator.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_rounds_the_wide_estimate(name: str, dtype: torch.dtype) -> None:
    def run(s: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(7)
        return row_gradients(every(BITS)[name], lambda b: b.sum(1).square(), s, generator=generator)

    s = normal(40, BITS, seed=12).to(dtype)
    rows, wide = run(s), run(s.float())
    assert rows.dtype == dtype
    # MuProp, REBAR and RELAX evaluate f at values that f's own precision rounds.
    assert torch.allclose(rows.float(), wide, rtol=0.02, atol=40 * torch.finfo(dtype).eps)


ORDER = [("loo", "reinforce", 0.7), ("disarm", "arm", 0.95), ("loo4", "loo", 0.5)]
ORDER += [("arms", "disarm", 0.5), ("muprop", "disarm", 0.8), ("rebar", "disarm", 0.8)]
ORDER += [("double_cv", "loo", 0.5), ("mvd", "double_cv", 0.3)]


def test_the_order_of_variances() -> None:
    variance = {
        name: estimates(estimator, mlp, n=20_000).var(0).sum()
        for name, estimator in every(BITS).items()
    }
    for lower, higher, factor in ORDER:
        assert variance[lower] < factor * variance[higher], (lower, higher)


def test_no_estimate_no_loss() -> None:
    with pytest.raises(NotImplementedError, match="MultiEvaluation must define estimate"):
        MultiEvaluation().loss(THETA[None], mlp)


def test_what_is_declared() -> None:
    for name, estimator in every(BITS).items():
        assert estimator.exactness == "unbiased"
        assert estimator.randomness == ("none" if name == "exact" else "noise")
        assert not estimator.relaxed


@pytest.mark.parametrize("name", NAMES)
def test_whether_f_is_differentiated_or_evaluated_between_bits_is_declared(name: str) -> None:
    seen: list[Tensor] = []

    def f(b: Tensor) -> Tensor:
        seen.append(b)
        return mlp(b)

    estimator = every(BITS)[name]
    estimator.loss(normal(6, BITS, seed=11).requires_grad_(), f)
    differentiated = any(b.requires_grad or not ((b == 0) | (b == 1)).all() for b in seen)
    assert differentiated == estimator.differentiates


def test_the_oracle_itself() -> None:
    """Enumeration against a gradient known by hand: E (b0 + b1)^2 = p0 + p1 + 2 p0 p1."""
    s = THETA[:2]
    p = torch.sigmoid(s)
    by_hand = p * (1 - p) * (1 + 2 * p.flip(0))
    assert torch.allclose(true_gradient(lambda b: b.sum(1).square(), s), by_hand, atol=1e-15)
    assert law(p).sum() == pytest.approx(1, abs=1e-15)
    assert codes(2).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    with pytest.raises(RuntimeError, match="no backward rule"):
        backward(ARM(), s, p)


def test_loss_draws_bits_in_evaluation_mode_too() -> None:
    s = torch.zeros(1000, 3, dtype=torch.float64)
    for training in (True, False):
        leaf = s.clone().requires_grad_()
        seen: list[Tensor] = []

        def f(bits: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(bits)
            return bits.sum(1)

        estimator = LeaveOneOut(samples=2).train(training)
        estimator.loss(leaf, f, generator=torch.Generator().manual_seed(0)).backward()
        assert leaf.grad is not None
        assert leaf.grad.abs().sum() > 0
        assert 0.4 < seen[0].mean() < 0.6
        bits = estimator(s, generator=torch.Generator().manual_seed(0))
        assert bits.any() == training
