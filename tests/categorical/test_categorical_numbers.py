"""What every estimator of conf/categorical/ promises in half precision and at the edges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

import stelab
from stelab.categorical import CategoricalEstimator
from stelab.engine.config import CONF_DIR

FILES = {path.stem: path for path in sorted(Path(CONF_DIR, "categorical").glob("*.yaml"))}
HALVES = [torch.float16, torch.bfloat16]
DTYPES = [*HALVES, torch.float32, torch.float64]
K = 5
EDGES = torch.tensor(
    [
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [1e-4, -1e-4, 0.0, 9.0, -9.0],
        [65504.0, -65504.0, 2620.0, 0.0, 1.0],
        [torch.inf, 0.0, 1.0, -1.0, 65504.0],
        [-torch.inf, 0.0, 1.0, -1.0, 65504.0],
        [torch.inf, -torch.inf, -torch.inf, -torch.inf, 2.0],
        [20.0, -20.0, 0.3, -2.0, 4.0],
    ]
)


@pytest.fixture(params=list(FILES))
def estimator(request: pytest.FixtureRequest) -> CategoricalEstimator:
    return stelab.build(OmegaConf.load(FILES[request.param]))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def distance(one_hots: Tensor) -> Tensor:
    return (one_hots.float() * torch.linspace(0.1, 2, K)).flatten(1).sum(1).square()


def gradient(
    estimator: CategoricalEstimator,
    logits: Tensor,
    f: Callable[[Tensor], Tensor] = distance,
    scale: float = 1.0,
) -> Tensor:
    leaf = logits.clone().requires_grad_()
    (scale * estimator.loss(leaf, f, generator=generator())).backward()
    assert leaf.grad is not None
    assert leaf.grad.dtype == logits.dtype
    return leaf.grad


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_rounds_the_float32_gradient(
    estimator: CategoricalEstimator, dtype: torch.dtype
) -> None:
    logits = torch.cat([EDGES, torch.randn(9, K, generator=generator())]).to(dtype)
    limits = torch.finfo(dtype)
    for scale, size in ((1.0, 1.0), (32768.0, 1e-3), (32768.0, 1e-6), (65536.0, 1e-4)):

        def f(one_hots: Tensor, size: float = size) -> Tensor:
            return size * distance(one_hots.to(dtype))

        half = gradient(estimator, logits, f, scale).float()
        full = gradient(estimator, logits.float(), f, scale)
        room = limits.eps * full.abs() + limits.smallest_normal * limits.eps
        assert full.isfinite().all()
        assert ((half - full).abs() <= room).all(), (scale, size)


def test_a_loss_that_half_precision_cannot_hold(estimator: CategoricalEstimator) -> None:
    logits = torch.zeros(4, 3, K, dtype=torch.float16, requires_grad=True)
    loss = estimator.loss(logits, lambda b: b.flatten(1).sum(1) + 1, generator=generator())
    assert loss == 4
    assert (65536 * loss).isfinite()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_extremes_are_finite(
    estimator: CategoricalEstimator, dtype: torch.dtype, training: bool
) -> None:
    logits = EDGES.to(dtype)
    assert gradient(estimator.train(training), logits).isfinite().all()
    for index in range(K):
        leaf = logits.clone().requires_grad_()
        sample = torch.eye(K)[index].expand_as(leaf)
        estimator(leaf, sample=sample, generator=generator()).square().sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


def test_an_infinite_logit_is_drawn(estimator: CategoricalEstimator) -> None:
    logits = torch.randn(100, K)
    logits[:, 3] = torch.inf
    for training in (True, False):
        assert (estimator.train(training)(logits, generator=generator()).argmax(-1) == 3).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_nan_stays_where_it_is(
    estimator: CategoricalEstimator, dtype: torch.dtype, training: bool
) -> None:
    estimator.train(training)
    logits = torch.randn(6, 2, K, generator=generator()).to(dtype)
    broken = logits.clone()
    broken[2, 1, 3] = torch.nan
    one_hots = estimator(broken, generator=generator())
    assert ((one_hots == 0) | (one_hots == 1)).all()
    assert (one_hots.sum(-1) == 1).all()
    sample = torch.eye(K)[torch.arange(12).reshape(6, 2) % K]

    def back(logits: Tensor) -> Tensor:
        leaf = logits.clone().requires_grad_()
        estimator(leaf, sample=sample, generator=generator()).cos().sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    grad, expected = back(broken), back(logits)
    assert grad[2, 1].isnan().all()
    grad[2, 1] = expected[2, 1]
    assert torch.allclose(grad, expected, rtol=0, atol=0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_loss_is_the_value(estimator: CategoricalEstimator, mode: Any) -> None:
    logits = torch.randn(8, K, requires_grad=True)
    with mode():
        value = estimator.loss(logits, distance, generator=generator())
    assert not value.requires_grad
    expected = estimator.loss(logits, distance, generator=generator()).detach()
    assert torch.equal(value.clone(), expected)


def test_an_empty_batch_has_an_empty_gradient(estimator: CategoricalEstimator) -> None:
    for shape in ((0, K), (0, 3, K), (4, 0, K)):
        logits = torch.zeros(shape, requires_grad=True)
        loss = estimator.loss(logits, lambda b: b.sum(tuple(range(1, b.dim()))))
        loss.backward()
        assert logits.grad is not None
        assert logits.grad.shape == shape
        assert loss.isnan() == (shape[0] == 0)


@pytest.mark.parametrize("shape", [(1, 3, K), (3, K), (4, 1, K), (4, 3, 1), (K,), ()], ids=str)
def test_a_sample_of_another_shape_is_refused(
    estimator: CategoricalEstimator, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"sample must have the shape .* \(4, 3, 5\), got"):
        estimator(torch.zeros(4, 3, K), sample=torch.zeros(shape))


@pytest.mark.parametrize("shape", [(), (4, 0)], ids=str)
def test_logits_without_classes_are_refused(
    estimator: CategoricalEstimator, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="a class or more in their last dimension, got shape"):
        estimator(torch.zeros(shape))


def test_f_must_return_one_loss_an_example(estimator: CategoricalEstimator) -> None:
    for reduce in (Tensor.sum, lambda d: d, lambda d: d.sum(2)):
        with pytest.raises(ValueError, match=r"one loss an example, shape \(4,\)"):
            estimator.loss(torch.zeros(4, 3, K), reduce)
    with pytest.raises(ValueError, match="a batch is needed"):
        estimator.loss(torch.zeros(K), lambda d: d.sum())


def test_second_derivatives_are_an_error(estimator: CategoricalEstimator) -> None:
    logits = torch.randn(4, K, requires_grad=True)
    loss = estimator.loss(logits, lambda d: d @ torch.linspace(0, 1, K), generator=generator())
    (first,) = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="no derivative of its own"):
        (first.square().sum() + logits.sum()).backward()
    inner = torch.func.grad(lambda x: estimator(x).sum())
    with pytest.raises(RuntimeError, match="no derivative of its own"):
        torch.func.grad(lambda x: inner(x).sum())(logits.detach())
