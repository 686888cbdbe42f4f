"""What every estimator of conf/estimator/ promises; a new YAML file is tested without an edit."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import stelab
from stelab.config import CONF_DIR
from stelab.estimators import Estimator

NAMES = sorted(path.stem for path in Path(CONF_DIR, "estimator").glob("*.yaml"))
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.fixture(params=NAMES)
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return stelab.build(stelab.compose(f"estimator={request.param}").estimator)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_bits_are_exact_in_every_dtype(
    estimator: Estimator, dtype: torch.dtype, scale: float
) -> None:
    s = (scale * torch.randn(64, 9)).to(dtype)
    bits = estimator(s, generator=generator())
    assert bits.shape == s.shape
    assert bits.dtype == dtype
    assert ((bits == 0) | (bits == 1)).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_gradient_has_the_dtype_of_s(estimator: Estimator, dtype: torch.dtype) -> None:
    s = torch.randn(4, 3, dtype=dtype, requires_grad=True)
    estimator(s, generator=generator()).sum().backward()
    assert s.grad is not None
    assert s.grad.dtype == dtype
    assert s.grad.isfinite().all()


def test_the_same_generator_gives_the_same_bits_and_gradient(estimator: Estimator) -> None:
    def once() -> tuple[Tensor, Tensor | None]:
        s = torch.linspace(-2, 2, 40).reshape(8, 5).requires_grad_()
        bits = estimator(s, generator=generator())
        (bits * bits.cos()).sum().backward()
        return bits.detach(), s.grad

    for first, second in zip(once(), once(), strict=True):
        assert first is not None
        assert second is not None
        assert torch.equal(first, second)


def test_the_global_generator_is_left_alone(estimator: Estimator) -> None:
    before = torch.get_rng_state()
    estimator(torch.randn(4, 3, generator=generator()), generator=generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_loss_is_the_mean_and_trains_the_parameters_of_f(estimator: Estimator) -> None:
    weight = torch.randn(5, requires_grad=True)
    s = torch.randn(8, 5, requires_grad=True)
    seen = []

    def f(bits: Tensor) -> Tensor:
        seen.append(bits.detach())
        return (bits @ weight).square()

    loss = estimator.loss(s, f, generator=generator())
    loss.backward()
    assert s.grad is not None
    assert weight.grad is not None
    (bits,) = seen
    expected = (bits @ weight).square().mean()
    (grad,) = torch.autograd.grad(expected, weight)
    assert torch.equal(loss, expected)
    assert torch.allclose(weight.grad, grad, rtol=0, atol=1e-6)


def test_func_transforms(estimator: Estimator) -> None:
    s, w = torch.randn(6, 4), torch.randn(4)
    bits = torch.randint(0, 2, (6, 4)).float()

    def loss(s: Tensor, bits: Tensor) -> Tensor:
        return (estimator(s, bits=bits) * w).square().sum()

    one_by_one = torch.stack([torch.func.grad(loss)(s[i], bits[i]) for i in range(6)])
    at_once = torch.func.vmap(torch.func.grad(loss))(s, bits)
    leaf = s.clone().requires_grad_()
    loss(leaf, bits).backward()
    assert leaf.grad is not None
    assert torch.allclose(at_once, one_by_one, rtol=0, atol=1e-7)
    assert torch.allclose(at_once, leaf.grad, rtol=0, atol=1e-7)


def test_compiled_equals_eager(estimator: Estimator) -> None:
    s, g = torch.randn(6, 4), torch.randn(6, 4)
    bits = torch.randint(0, 2, (6, 4)).float()

    def run(function: Any) -> Tensor:
        leaf = s.clone().requires_grad_()
        function(leaf, bits=bits).backward(g)
        assert leaf.grad is not None
        return leaf.grad

    compiled = torch.compile(estimator, backend="aot_eager", fullgraph=True)
    assert torch.equal(run(compiled), run(estimator))
    torch._dynamo.reset()


def test_copies_and_pickles(estimator: Estimator) -> None:
    s, bits = torch.randn(6, 4), torch.randint(0, 2, (6, 4)).float()
    for twin in (copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):
        assert repr(twin) == repr(estimator)
        assert torch.equal(twin(s, bits=bits), estimator(s, bits=bits))


def test_the_docstring_says_what_it_computes(estimator: Estimator) -> None:
    text = type(estimator).__doc__ or ""
    assert "Forward:" in text
    assert "Backward:" in text
    assert "evaluation" in text
