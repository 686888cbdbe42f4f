"""What every estimator of conf/estimator/ promises in half precision and at the edges."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from members import BITS, ESTIMATORS, MULTI, NAMES, ONE_PASS, build, fresh, generator
from torch import Tensor, nn

from stelab.estimators import Estimator, PerExampleLoss, Relax, wide

HALVES = [torch.float16, torch.bfloat16]
DTYPES = [*HALVES, torch.float32, torch.float64]
EDGES = torch.tensor(
    [0.0, 1e-4, -1e-4, 0.5, -0.5, 1.0, -1.0, 9.0, -9.0, 20.0, -20.0, 2620.0, -2620.0, 65504.0]
    + [-65504.0, torch.inf, -torch.inf, 0.3, -2.0, 4.0]
).reshape(-1, BITS)
TARGET = torch.linspace(0.1, 0.8, BITS)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=MULTI)
def multi(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=ONE_PASS)
def one_pass(request: pytest.FixtureRequest) -> str:
    return request.param


def distance(bits: Tensor) -> Tensor:
    return (wide(bits) - TARGET.to(wide(bits).dtype)).square().flatten(1).sum(1)


def gradient(
    estimator: Estimator, s: Tensor, f: PerExampleLoss = distance, *, scale: float = 1.0
) -> Tensor:
    leaf = s.clone().requires_grad_()
    (scale * estimator.loss(leaf, f, generator=generator())).backward()
    assert leaf.grad is not None
    assert leaf.grad.dtype == s.dtype
    return leaf.grad


def state(estimator: Estimator) -> dict[str, Tensor]:
    """Parameters, buffers and the gradients left in parameters."""
    left = {f"{n}.grad": p.grad for n, p in estimator.named_parameters() if p.grad is not None}
    return {n: t.clone() for n, t in (estimator.state_dict() | left).items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_rounds_the_float32_gradient(name: str, dtype: torch.dtype) -> None:
    """Of scaled losses, too. Both see f through half: where codes are relaxed, f rounds them."""
    s = torch.cat([EDGES, 2 * torch.randn(12, BITS, generator=generator())]).to(dtype)
    limits = torch.finfo(dtype)
    for progress in (0.0, 0.5, 1.0):
        for scale, size in ((1.0, 1.0), (32768.0, 1e-3), (32768.0, 1e-6), (65536.0, 1e-4)):

            def f(bits: Tensor, size: float = size) -> Tensor:
                return size * distance(bits.to(dtype))

            half = gradient(fresh(name, progress=progress), s, f, scale=scale).float()
            full = gradient(fresh(name, progress=progress), s.float(), f, scale=scale)
            room = limits.eps * full.abs() + limits.smallest_normal * limits.eps
            assert full.isfinite().all()
            assert ((half - full).abs() <= room).all(), (progress, scale, size)


def test_a_slope_that_half_precision_cannot_hold_still_counts(one_pass: str) -> None:
    estimator, s = fresh(one_pass), torch.full((2, BITS), -18.0, dtype=torch.float16)
    bits = torch.zeros_like(s)

    def back(s: Tensor) -> Tensor:
        leaf = s.clone().requires_grad_()
        torch.manual_seed(0)
        estimator(leaf, bits=bits).backward(torch.full_like(s, 60000.0))
        assert leaf.grad is not None
        return leaf.grad.float()

    # Rounded, as what a slope above 1 makes of 60,000 is infinite.
    assert torch.allclose(back(s), back(s.float()).half().float(), rtol=2e-3, atol=6e-8)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_loss_that_half_precision_cannot_hold(name: str, dtype: torch.dtype) -> None:
    s = torch.zeros(64, BITS, dtype=dtype, requires_grad=True)
    loss = fresh(name).loss(s, lambda b: b.sum(1) + 1, generator=generator())
    assert loss.dtype == torch.float32
    assert (65536 * loss).isfinite()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_extremes_are_finite(name: str, dtype: torch.dtype, training: bool) -> None:
    large = torch.finfo(dtype).max * torch.tensor([1, -1, 1, -1, 0.5], dtype=dtype)
    s = torch.cat([EDGES.to(dtype), large[None]])
    for progress in (0.0, 1.0):
        estimator = fresh(name, progress=progress).train(training)
        assert gradient(estimator, s).isfinite().all()
        assert all(value.isfinite().all() for value in state(estimator).values())
        assert estimator(s, generator=generator()).isfinite().all()


def test_extremes_are_finite_for_any_given_bits(one_pass: str) -> None:
    for bits in (torch.zeros_like(EDGES), torch.ones_like(EDGES)):
        leaf = EDGES.clone().requires_grad_()
        fresh(one_pass)(leaf, bits=bits, generator=generator()).sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_nan_stays_where_it_is(name: str, dtype: torch.dtype, training: bool) -> None:
    s = torch.randn(6, BITS, generator=generator()).to(dtype)
    broken, low = s.clone(), s.clone()
    broken[2, 1], low[2, 1] = torch.nan, -torch.inf
    first, second = (fresh(name, progress=0.5).train(training) for _ in range(2))
    assert torch.equal(first(broken, generator=generator()), first(low, generator=generator()))
    grad, expected = gradient(first, broken), gradient(second, low)
    assert grad[2, 1].isnan()
    grad[2, 1] = expected[2, 1]
    assert torch.equal(grad, expected)
    assert same(state(first), state(second))


def trained(name: str) -> Estimator:
    """One whose buffers and ``.grad`` are not at their start."""
    estimator = fresh(name)
    for parameter in estimator.parameters():
        parameter.grad = torch.ones_like(parameter)
    gradient(estimator, torch.randn(8, BITS, generator=generator()))
    return estimator


def value(estimator: Estimator, s: Tensor) -> Tensor:
    return estimator.loss(s, distance, generator=generator())


def test_evaluation_changes_nothing(name: str) -> None:
    estimator = trained(name).eval()
    before, random = state(estimator), torch.get_rng_state()
    value(estimator, torch.randn(8, BITS, requires_grad=True, generator=generator(1)))
    assert same(state(estimator), before)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_loss_is_the_value(name: str, training: bool, mode: Any) -> None:
    estimator = trained(name).train(training)
    before = state(estimator)
    s = torch.randn(8, BITS, requires_grad=True, generator=generator(1))
    with mode():
        plain = value(estimator, s)
        assert torch.equal(plain, value(estimator, s.clone()))  # a clone is an inference tensor
    assert same(state(estimator), before)
    assert not plain.requires_grad
    assert torch.equal(plain.clone(), value(estimator, s).detach())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(0, BITS), (0, BITS, 1, 1), (0,), (3, 0)], ids=str)
def test_nothing_has_no_gradient(name: str, shape: tuple[int, ...], training: bool) -> None:
    estimator = trained(name).train(training)
    before = state(estimator)
    weight = torch.ones((), requires_grad=True)
    s = torch.zeros(shape, requires_grad=True)
    assert estimator(s, generator=generator()).shape == shape
    loss = estimator.loss(s, lambda b: weight * b.reshape(len(b), -1 if len(b) else 1).sum(1))
    loss.backward()
    assert s.grad is not None
    assert s.grad.shape == shape
    assert loss.isnan() == (shape[0] == 0)
    assert weight.grad == 0
    if name in MULTI:
        assert same(state(estimator), before)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_losses_are_wide_and_each_its_own_examples(name: str, dtype: torch.dtype) -> None:
    s = torch.randn(6, BITS, generator=generator()).to(dtype)
    s[2, 1] = torch.nan
    leaf, empty = s.requires_grad_(), s.detach()[:0].requires_grad_()
    losses = fresh(name).losses(leaf, lambda b: b.square().sum(1) + 1, generator=generator())
    assert losses.dtype == torch.promote_types(dtype, torch.float32)
    (grad,) = torch.autograd.grad(losses[3], leaf)  # a NaN elsewhere, and all other losses
    assert grad[[0, 1, 4, 5]].count_nonzero() == 0
    assert grad[3].isfinite().all()
    none = fresh(name).losses(empty, lambda b: b.sum(1), generator=generator())
    none.sum().backward()
    assert none.shape == (0,)
    assert empty.grad is not None


def test_codes_without_dimensions(name: str) -> None:
    """A batch of single bits: the same numbers as codes of one dimension of one bit."""
    s, single = torch.randn(64, generator=generator()), build(name, bits=1)

    def f(bits: Tensor) -> Tensor:
        return (bits.reshape(64) - 0.3).square()

    expected = gradient(copy.deepcopy(single), s[:, None], f)
    assert torch.equal(gradient(single, s, f), expected[:, 0])
    assert fresh(name)(s[0], generator=generator()).shape == ()
    with pytest.raises(ValueError, match=r"a batch is needed.* got a tensor of shape \(\)"):
        fresh(name).loss(s[0], f)


@pytest.mark.parametrize(
    "shape", [(1, BITS), (BITS,), (4, 1), (), (4, BITS + 1), (8, BITS)], ids=str
)
def test_bits_of_another_shape_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must have the shape .* \(4, 5\), got"):
        fresh(name)(torch.zeros(4, BITS), bits=torch.zeros(shape))


def test_bits_of_any_dtype_are_taken(name: str) -> None:
    s, bits = torch.zeros(4, BITS), torch.randint(0, 2, (4, BITS))
    for given in (bits, bits.bool(), bits.double(), bits.half()):
        assert torch.equal(fresh(name).eval()(s, bits=given), bits.float())


@pytest.mark.parametrize("reduce", [Tensor.sum, lambda b: b, lambda b: b.sum(1, keepdim=True)])
def test_f_must_return_one_loss_an_example(name: str, reduce: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match=r"one loss an example, shape \(4,\)"):
        fresh(name).loss(torch.zeros(4, BITS, requires_grad=True), reduce)


def test_codes_of_another_length_are_refused_or_taken(multi: str) -> None:
    s = torch.zeros(4, BITS + 2, requires_grad=True)
    try:
        fresh(multi).loss(s, lambda b: b.sum(1), generator=generator()).backward()
    except ValueError as error:
        assert f"made for codes of {BITS} bits, got {BITS + 2}" in str(error)


BLACK_BOXES: dict[str, PerExampleLoss] = {
    "detached": lambda b: distance(b.detach() > 0.5),
    "numpy": lambda b: torch.from_numpy(distance((b > 0.5).double()).detach().numpy()),
    "rounded": lambda b: distance(b.round()),
    "behind a network": lambda b: distance((b > 0.5) * torch.ones(BITS, requires_grad=True)),
}


@pytest.mark.parametrize("box", BLACK_BOXES)
def test_losses_without_a_slope_are_estimated_without_bias(multi: str, box: str) -> None:
    estimator = fresh(multi).double()
    if isinstance(estimator, Relax):  # a network that is not at its start, which is 0
        for parameter in estimator.net.parameters():
            parameter.data.normal_(generator=generator(5))
    theta, n = torch.linspace(-1.5, 1, BITS).double(), 4000
    rows = gradient(estimator, theta.expand(n, -1), BLACK_BOXES[box]) * n
    p = torch.sigmoid(theta)
    exact = p * (1 - p) * (1 - 2 * TARGET)
    error = (rows.std(0) / n**0.5).clamp_min(1e-7)
    assert ((rows.mean(0) - exact).abs() < 4.5 * error).all()


def test_losses_that_ignore_the_bits(multi: str) -> None:
    weight = torch.ones((), requires_grad=True)
    s = torch.randn(4000, BITS, requires_grad=True, generator=generator(1))
    fresh(multi).loss(s, lambda b: weight * torch.full((4000,), 3.0)).backward()
    assert s.grad is not None
    assert weight.grad == 3
    rows = s.grad * len(s)
    assert (rows.mean(0).abs() < 4.5 * (rows.std(0) / len(s) ** 0.5).clamp_min(1e-6)).all()


def first_order(estimator: Estimator, s: Tensor, weight: Tensor) -> Tensor:
    loss = estimator.loss(s, lambda b: b @ weight, generator=generator())
    return torch.autograd.grad(loss, s, create_graph=True)[0].sum()


def test_second_derivatives_are_right_or_an_error(name: str) -> None:
    """The loss is linear: the rule alone depends on s, and nothing comes back that would warn."""
    s = torch.linspace(-1.3, 1.7, 3 * BITS, dtype=torch.float64).reshape(3, BITS)
    weight, h = torch.linspace(1, 2, BITS, dtype=torch.float64), 1e-6
    leaf = s.clone().requires_grad_()
    again = copy.deepcopy(fresh(name, progress=0.5))
    total = first_order(again, leaf, weight)
    extra = leaf.square().sum()  # so that there is a graph in any case
    try:
        (second,) = torch.autograd.grad(total + extra, leaf)
    except RuntimeError as error:
        assert "no derivative of its own" in str(error)
        return

    def at(s: Tensor) -> Tensor:
        return first_order(fresh(name, progress=0.5), s.requires_grad_(), weight).detach()

    for i in range(3 * BITS):
        e = torch.zeros(3 * BITS, dtype=torch.float64)
        e[i] = h
        difference = (at(s + e.view_as(s)) - at(s - e.view_as(s))) / (2 * h)
        found = (second - 2 * s).flatten()[i]
        assert found.item() == pytest.approx(difference.item(), abs=1e-6)


def test_second_derivatives_with_torch_func(one_pass: str) -> None:
    bits = torch.ones(3, BITS)

    def inner(s: Tensor) -> Tensor:
        first = torch.func.grad(lambda x: fresh(one_pass)(x, bits=bits).sum())(s)
        return first.sum()

    s = torch.linspace(-1, 1, 3 * BITS).reshape(3, BITS)
    leaf = s.clone().requires_grad_()

    def either(second: Callable[[], Tensor]) -> Tensor | None:
        try:
            return second()
        except RuntimeError as error:
            assert "no derivative of its own" in str(error)
            return None

    loss = fresh(one_pass)(leaf, bits=bits).sum()
    (grad,) = torch.autograd.grad(loss, leaf, create_graph=True)
    plain = either(lambda: torch.autograd.grad(grad.sum() + 0 * leaf.sum(), leaf)[0])
    func = either(lambda: torch.func.grad(inner)(s))
    assert (plain is None) == (func is None)
    if plain is not None and func is not None and ESTIMATORS[one_pass].randomness != "noise":
        assert torch.allclose(plain, func, rtol=0, atol=1e-6)


def test_the_gradient_s_derivative_by_the_loss_is_complete_or_an_error(name: str) -> None:
    """A penalty on the gradient at s, as it trains the parameters inside f."""
    s = torch.linspace(-1, 1, BITS, dtype=torch.float64).repeat(4, 1).requires_grad_()
    weight = torch.linspace(1, 2, BITS, dtype=torch.float64).requires_grad_()

    def penalty(weight: Tensor) -> Tensor:
        loss = fresh(name).loss(s, lambda b: b @ weight, generator=generator())
        return torch.autograd.grad(loss, s, create_graph=True)[0].square().sum()

    try:
        (found,) = torch.autograd.grad(penalty(weight) + 0 * weight.sum(), weight)
    except RuntimeError as error:
        assert "no derivative of its own" in str(error)
        assert name in MULTI
        return
    for i in range(BITS):
        e = torch.zeros(BITS, dtype=torch.float64)
        e[i] = 0.5
        difference = penalty(weight + e) - penalty(weight - e)  # quadratic: exact
        assert found[i].item() == pytest.approx(difference.item(), abs=1e-12)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_estimators_can_be_cast_to_half_precision(name: str, dtype: torch.dtype) -> None:
    estimator = fresh(name, progress=0.5).to(dtype)
    s = torch.randn(64, BITS, generator=generator()).to(dtype)
    decoder = nn.Linear(BITS, 4).to(dtype)
    grad = gradient(estimator, s, lambda b: decoder(b).square().sum(1))
    assert grad.isfinite().all()
    assert all(v.isfinite().all() and v.dtype == dtype for v in state(estimator).values())
