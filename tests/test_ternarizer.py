"""Ternary values: numbers by hand, and what kinds of estimators they go with."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from members import NAMES, build, fresh

from stelab import Ternarizer
from stelab.estimators import EWGS, ClippedInput, Identity, MultiEvaluation

SIGN = ClippedInput(bound=1.0, normalize_mass=True)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
X = [-2.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0]
DRAWS = [
    name
    for name in NAMES
    if fresh(name).randomness != "none" or isinstance(fresh(name), MultiEvaluation)
]
GIVEN = [name for name in NAMES if name not in DRAWS]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_two_steps_strictly_above(dtype: torch.dtype) -> None:
    x = torch.tensor(X, dtype=dtype, requires_grad=True)
    values = Ternarizer(threshold=0.5, estimator=SIGN)(x)
    assert values.dtype == dtype
    assert values.tolist() == [-1, -1, -1, 0, 0, 0, 0, 1, 1]
    values.backward(torch.full((9,), 3, dtype=dtype))
    assert x.grad is not None
    assert x.grad.tolist() == [0, 3, 3, 3, 3, 3, 3, 3, 0]


def test_the_threshold_of_ternary_weight_networks_follows_the_mean() -> None:
    x = torch.tensor([[0.1, -0.5, 2.0], [-3.0, 0.8, 0.76]], requires_grad=True)  # mean |x| = 7.16/6
    assert Ternarizer(threshold="twn", estimator=SIGN)(x).tolist() == [[0, 0, 1], [-1, 0, 0]]
    assert Ternarizer(threshold="twn", estimator=SIGN)(4 * x).tolist() == [[0, 0, 1], [-1, 0, 0]]


def test_a_threshold_of_zero_is_the_sign() -> None:
    values = Ternarizer(threshold=0.0, estimator=SIGN)(torch.tensor(X))
    assert values.tolist() == [-1] * 5 + [1] * 4


@pytest.mark.parametrize("name", GIVEN)
def test_the_gradient_is_the_sum_of_both_bits_rules(name: str) -> None:
    estimator, x, g = fresh(name, progress=0.5), torch.randn(50), torch.randn(50)
    leaf = x.clone().requires_grad_()
    values = Ternarizer(threshold=0.3, estimator=estimator)(leaf)
    assert set(values.tolist()) == {-1, 0, 1}
    values.backward(g)
    expected = torch.zeros(50)
    for t in (-0.3, 0.3):
        part = x.clone().requires_grad_()
        estimator(part, bits=(x > t).float()).backward(g)
        assert part.grad is not None
        expected += part.grad
    assert leaf.grad is not None
    assert torch.allclose(leaf.grad, expected, rtol=0, atol=1e-6)


def test_a_rule_that_looks_at_the_bit_sees_each_steps() -> None:
    x = torch.tensor([0.0], requires_grad=True)
    Ternarizer(threshold=0.25, estimator=EWGS(scaling=0.5))(x).backward(torch.ones(1))
    assert x.grad is not None
    # Latent value 1/2: gaps of 1/2 - 0 and 1/2 - 1, which cancel.
    assert x.grad.tolist() == [2.0]


@pytest.mark.parametrize("name", DRAWS)
def test_an_estimator_that_draws_is_refused(name: str) -> None:
    estimator = build(name)
    with pytest.raises(ValueError, match=f"got {type(estimator).__name__}, which draws its own"):
        Ternarizer(threshold=0.5, estimator=estimator)


@pytest.mark.parametrize("threshold", [-0.1, float("nan"), float("inf"), "mean", True])
def test_a_threshold_out_of_its_range_is_refused(threshold: Any) -> None:
    with pytest.raises(ValueError, match="threshold must be .* or 'twn', got"):
        Ternarizer(threshold=threshold, estimator=Identity())


@pytest.mark.parametrize("threshold", [0.5, "twn"])
def test_copies_pickles_compiles_and_transforms(threshold: Any) -> None:
    layer, x = Ternarizer(threshold=threshold, estimator=SIGN), torch.randn(4, 6)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(twin) == repr(layer)
        assert torch.equal(twin(x), layer(x))
    assert f"threshold={threshold!r}" in repr(layer)
    assert not layer.state_dict()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for each in (x, x.clone().requires_grad_()):
        assert torch.equal(compiled(each), layer(each))
    assert torch.equal(torch.func.vmap(layer)(x), torch.stack([layer(row) for row in x]))
    torch._dynamo.reset()
