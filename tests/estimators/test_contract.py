"""What every estimator of conf/estimator/ promises; a new YAML file is tested without an edit."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from members import BITS, ESTIMATORS, NAMES, ONE_PASS, generator
from torch import Tensor

from stelab.estimators import Estimator

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.fixture(params=NAMES)
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return copy.deepcopy(ESTIMATORS[request.param])


@pytest.fixture(params=ONE_PASS)
def one_pass(request: pytest.FixtureRequest) -> Estimator:
    return copy.deepcopy(ESTIMATORS[request.param])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_bits_are_exact_in_every_dtype(
    estimator: Estimator, dtype: torch.dtype, scale: float
) -> None:
    s = (scale * torch.randn(64, 9)).to(dtype)
    for training in (True, False):
        bits = estimator.train(training)(s, generator=generator())
        assert bits.shape == s.shape
        assert bits.dtype == dtype
        if estimator.relaxed and training:
            assert ((bits >= 0) & (bits <= 1)).all()
        else:
            assert ((bits == 0) | (bits == 1)).all()
    assert torch.equal(bits, (s > 0).to(dtype))  # evaluation draws nothing


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_the_gradient_is_finite_in_every_dtype(
    estimator: Estimator, dtype: torch.dtype, scale: float
) -> None:
    s = (scale * torch.randn(4, BITS)).to(dtype).requires_grad_()
    estimator.loss(s, lambda bits: bits.square().sum(1), generator=generator()).backward()
    assert s.grad is not None
    assert s.grad.dtype == dtype
    assert s.grad.isfinite().all()


def test_the_same_generator_gives_the_same_loss_and_gradient(estimator: Estimator) -> None:
    def once() -> tuple[Tensor, Tensor | None]:
        twin = copy.deepcopy(estimator)  # some learn
        s = torch.linspace(-2, 2, 8 * BITS).reshape(8, BITS).requires_grad_()
        loss = twin.loss(s, lambda bits: (bits * bits.cos()).sum(1), generator=generator())
        loss.backward()
        return loss.detach(), s.grad

    for first, second in zip(once(), once(), strict=True):
        assert first is not None
        assert second is not None
        assert torch.equal(first, second)


def test_the_global_generator_is_left_alone(estimator: Estimator) -> None:
    before = torch.get_rng_state()
    s = torch.randn(4, BITS, generator=generator())
    estimator(s, generator=generator())
    estimator.loss(s.requires_grad_(), lambda bits: bits.sum(1), generator=generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_one_pass_loss_is_the_mean_of_f(one_pass: Estimator) -> None:
    s, seen = torch.randn(8, BITS, requires_grad=True), []

    def f(bits: Tensor) -> Tensor:
        seen.append(bits.detach())
        return bits.cos().sum(1)

    loss = one_pass.loss(s, f, generator=generator())
    (bits,) = seen
    assert torch.equal(loss, bits.cos().sum(1).mean())


def gentle(bits: Tensor) -> Tensor:
    """Slopes that no estimator clamps."""
    return (bits * bits.cos()).sum(1) / 64


def test_the_mean_of_losses_is_the_loss(estimator: Estimator) -> None:
    s = torch.randn(8, BITS, requires_grad=True)
    first, second = (copy.deepcopy(estimator) for _ in range(2))  # some learn
    losses = first.losses(s, gentle, generator=generator())
    assert losses.shape == (8,)
    assert torch.equal(losses.mean(), second.loss(s, gentle, generator=generator()))


def test_each_of_the_losses_carries_its_own_weight(estimator: Estimator) -> None:
    s = torch.randn(8, BITS, requires_grad=True)
    first, second = (copy.deepcopy(estimator) for _ in range(2))
    weights = torch.tensor([0, 0.5, 1, 2, 4, 8, 0.25, 1])  # with 8 examples, nothing is rounded
    losses = first.losses(s, gentle, generator=generator())
    (weighed,) = torch.autograd.grad((weights * losses).sum(), s)
    (mean,) = torch.autograd.grad(second.loss(s, gentle, generator=generator()), s)
    assert weighed[1:].any() == mean.any()
    assert torch.equal(weighed, 8 * weights[:, None] * mean)


def test_losses_refuse_what_is_not_one_an_example(estimator: Estimator) -> None:
    with pytest.raises(ValueError, match=r"one loss an example, shape \(3,\), got \(3, 5\)"):
        estimator.losses(torch.randn(3, BITS), lambda bits: bits)


def test_the_parameters_of_f_get_their_ordinary_gradient(estimator: Estimator) -> None:
    weight = torch.randn(BITS, dtype=torch.float64, requires_grad=True)
    s = torch.randn(8, BITS, dtype=torch.float64, requires_grad=True)

    def loss(weight: Tensor) -> Tensor:
        twin = copy.deepcopy(estimator)
        return twin.loss(s, lambda bits: (bits @ weight).square(), generator=generator())

    loss(weight).backward()
    assert weight.grad is not None
    for i in range(BITS):  # quadratic in the weight, so central differences are exact
        e = torch.zeros_like(weight)
        e[i] = 0.5
        difference = loss(weight.detach() + e) - loss(weight.detach() - e)
        assert weight.grad[i] == pytest.approx(difference.item(), abs=1e-12)


def test_losses_are_counted(estimator: Estimator) -> None:
    calls = []

    def f(bits: Tensor) -> Tensor:
        calls.append(bits)
        return bits.square().sum(1)

    estimator.loss(torch.randn(3, BITS, requires_grad=True), f, generator=generator())
    assert len(calls) == estimator.evaluations(BITS)


def test_codes_of_any_shape(estimator: Estimator) -> None:
    s = torch.randn(4, BITS, 1, 1)

    def gradient(s: Tensor) -> Tensor:
        s, twin = s.clone().requires_grad_(), copy.deepcopy(estimator)

        def f(bits: Tensor) -> Tensor:
            return bits.flatten(1).cumsum(1).square().sum(1)

        (grad,) = torch.autograd.grad(twin.loss(s, f, generator=generator()), s)
        return grad

    assert torch.equal(gradient(s).flatten(1), gradient(s.flatten(1)))


def test_func_transforms(one_pass: Estimator) -> None:
    s, w = torch.randn(6, 4), torch.randn(4)
    bits = torch.randint(0, 2, (6, 4)).float()

    def loss(s: Tensor, bits: Tensor) -> Tensor:
        return (one_pass(s, bits=bits) * w).square().sum()

    vmap = torch.func.vmap(torch.func.grad(loss), randomness="different")
    at_once = vmap(s, bits)
    if one_pass.randomness == "noise":
        return  # it ran; what it drew cannot be drawn again one by one
    one_by_one = torch.stack([torch.func.grad(loss)(s[i], bits[i]) for i in range(6)])
    leaf = s.clone().requires_grad_()
    loss(leaf, bits).backward()
    assert leaf.grad is not None
    assert torch.allclose(at_once, one_by_one, rtol=0, atol=1e-7)
    assert torch.allclose(at_once, leaf.grad, rtol=0, atol=1e-7)


def test_compiled_equals_eager(one_pass: Estimator) -> None:
    s, g = torch.randn(6, 4), torch.randn(6, 4)
    bits = torch.randint(0, 2, (6, 4)).float()

    def run(function: Any) -> Tensor:
        torch.manual_seed(0)
        leaf = s.clone().requires_grad_()
        function(leaf, bits=bits).backward(g)
        assert leaf.grad is not None
        return leaf.grad

    compiled = torch.compile(one_pass, backend="aot_eager", fullgraph=True)
    assert torch.equal(run(compiled), run(one_pass))
    torch._dynamo.reset()


def test_compiled_where_no_gradient_flows(one_pass: Estimator) -> None:
    s, bits = torch.randn(6, 4), torch.randint(0, 2, (6, 4)).float()
    compiled = torch.compile(one_pass, backend="aot_eager", fullgraph=True)
    torch.manual_seed(0)
    mine = compiled(s, bits=bits)
    torch.manual_seed(0)
    assert torch.allclose(mine, one_pass(s, bits=bits), rtol=0, atol=1e-6)
    torch._dynamo.reset()


def test_copies_and_pickles(estimator: Estimator) -> None:
    s = torch.randn(6, 4)
    for twin in (copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):
        assert repr(twin) == repr(estimator)
        assert torch.equal(twin(s, generator=generator()), estimator(s, generator=generator()))


def test_the_docstring_says_what_it_computes(estimator: Estimator) -> None:
    text = type(estimator).__doc__ or ""
    assert "Forward:" in text
    assert "Backward:" in text
    assert "evaluation" in text
