"""What every estimator of conf/categorical/ promises; a new YAML file is tested without an edit."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

import stelab
from stelab.categorical import CategoricalEstimator
from stelab.engine.config import CONF_DIR
from stelab.engine.config.signature import read_signature

FILES = {path.stem: path for path in sorted(Path(CONF_DIR, "categorical").glob("*.yaml"))}
ESTIMATORS = {name: stelab.build(OmegaConf.load(path)) for name, path in FILES.items()}
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
K = 5


@pytest.fixture(params=list(FILES))
def estimator(request: pytest.FixtureRequest) -> CategoricalEstimator:
    return copy.deepcopy(ESTIMATORS[request.param])


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def one_hots(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.eye(K, dtype=dtype)[torch.randint(K, shape)]


def is_one_hot(sample: Tensor) -> bool:
    exact = ((sample == 0) | (sample == 1)).all() and (sample.sum(-1) == 1).all()
    return bool(exact)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1000.0])
def test_one_hots_are_exact_and_gradients_finite_in_every_dtype(
    estimator: CategoricalEstimator, dtype: torch.dtype, scale: float
) -> None:
    logits = (scale * torch.randn(16, 3, K)).to(dtype).requires_grad_()
    for training in (True, False):
        logits.grad = None
        sample = estimator.train(training)(logits, generator=generator())
        assert sample.shape == logits.shape
        assert sample.dtype == dtype
        assert is_one_hot(sample)
        sample.backward(torch.randn(16, 3, K).to(dtype))
        assert logits.grad is not None
        assert logits.grad.dtype == dtype
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_given_class_has_a_finite_gradient(
    estimator: CategoricalEstimator, dtype: torch.dtype
) -> None:
    logits = (1000 * torch.randn(64, K)).to(dtype).requires_grad_()
    estimator(logits, sample=one_hots(64, dtype=dtype), generator=generator()).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_an_excluded_class_is_never_drawn_and_gets_no_gradient(
    estimator: CategoricalEstimator,
) -> None:
    logits = torch.randn(200, K)
    logits[:, 2] = -torch.inf
    leaf = logits.requires_grad_()
    sample = estimator(leaf, generator=generator())
    sample.backward(torch.randn(200, K))
    assert leaf.grad is not None
    assert sample[:, 2].sum() == 0
    assert leaf.grad.isfinite().all()
    assert leaf.grad[:, 2].abs().max() < 1e-30


def test_a_single_class_gets_no_gradient(estimator: CategoricalEstimator) -> None:
    logits = torch.randn(6, 1, requires_grad=True)
    sample = estimator(logits, generator=generator())
    sample.backward(torch.randn(6, 1))
    assert torch.equal(sample, torch.ones(6, 1))
    assert torch.equal(torch.zeros(6, 1), torch.as_tensor(logits.grad))


def test_an_empty_batch_stays_empty(estimator: CategoricalEstimator) -> None:
    logits = torch.randn(0, 3, K, requires_grad=True)
    estimator(logits, generator=generator()).sum().backward()
    assert logits.grad is not None
    assert logits.grad.shape == (0, 3, K)


def test_gradients_ignore_constants_on_both_sides(estimator: CategoricalEstimator) -> None:
    logits, g = torch.randn(6, K, dtype=torch.float64), torch.randn(6, K, dtype=torch.float64)
    sample = one_hots(6, dtype=torch.float64)

    def grad(logits: Tensor, g: Tensor) -> Tensor:
        leaf = logits.clone().requires_grad_()
        estimator(leaf, sample=sample, generator=generator()).backward(g)
        assert leaf.grad is not None
        return leaf.grad

    expected = grad(logits, g)
    assert torch.allclose(expected.sum(-1), torch.zeros(6).double(), rtol=0, atol=1e-13)
    assert torch.allclose(grad(logits + 3, g - 7), expected, rtol=0, atol=1e-12)


def test_draws_follow_the_softmax_and_evaluation_takes_the_largest(
    estimator: CategoricalEstimator,
) -> None:
    n = 20_000
    logits = torch.tensor([1.0, -1.0, 0.0, 2.0, -3.0]).expand(n, K)
    pi = logits[0].softmax(-1)
    with torch.no_grad():
        z = (estimator.draw(logits, generator=generator()).mean(0) - pi) / (
            pi * (1 - pi) / n
        ).sqrt()
        assert z.abs().max() < 4
        assert torch.equal(estimator.eval()(logits[:2]).argmax(-1), torch.tensor([3, 3]))


def test_the_same_generator_gives_the_same_one_hots_and_gradient(
    estimator: CategoricalEstimator,
) -> None:
    def once() -> tuple[Tensor, Tensor | None]:
        logits = torch.linspace(-2, 2, 8 * K).reshape(8, K).requires_grad_()
        sample = estimator(logits, generator=generator())
        (sample * sample.cos()).sum().backward()
        return sample.detach(), logits.grad

    for first, second in zip(once(), once(), strict=True):
        assert first is not None
        assert second is not None
        assert torch.equal(first, second)


def test_the_global_generator_is_left_alone(estimator: CategoricalEstimator) -> None:
    logits = torch.randn(4, K, requires_grad=True)
    before = torch.get_rng_state()
    for training in (True, False):
        estimator.train(training)(logits, generator=generator()).sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


def test_randomness_says_whether_the_one_hot_determines_the_gradient(
    estimator: CategoricalEstimator,
) -> None:
    def grad(sample: Tensor) -> Tensor:
        leaf = logits.clone().requires_grad_()
        estimator(leaf, sample=sample).backward(g)
        assert leaf.grad is not None
        return leaf.grad

    logits, g, sample = torch.randn(6, K), torch.randn(6, K), one_hots(6)
    assert torch.equal(grad(sample), grad(sample)) == (estimator.randomness == "sample")


def test_loss_is_the_mean_and_trains_the_parameters_of_f(estimator: CategoricalEstimator) -> None:
    weight = torch.randn(K, requires_grad=True)
    logits = torch.randn(8, K, requires_grad=True)
    seen = []

    def f(sample: Tensor) -> Tensor:
        seen.append(sample.detach())
        return (sample @ weight).square()

    loss = estimator.loss(logits, f, generator=generator())
    loss.backward()
    assert logits.grad is not None
    assert weight.grad is not None
    (sample,) = seen
    assert is_one_hot(sample)
    expected = (sample @ weight).square().mean()
    (grad,) = torch.autograd.grad(expected, weight)
    assert torch.equal(loss, expected)
    assert torch.allclose(weight.grad, grad, rtol=0, atol=1e-6)


def test_each_of_the_losses_carries_its_own_weight(estimator: CategoricalEstimator) -> None:
    def f(sample: Tensor) -> Tensor:
        return sample.flatten(1).cumsum(1).cos().sum(1)

    logits = torch.randn(8, 2, K, requires_grad=True)
    weights = torch.tensor([0, 0.5, 1, 2, 4, 8, 0.25, 1])
    losses = estimator.losses(logits, f, generator=generator())
    loss = estimator.loss(logits, f, generator=generator())
    assert torch.equal(losses.mean(), loss)
    (weighed,) = torch.autograd.grad((weights * losses).sum(), logits)
    (mean,) = torch.autograd.grad(loss, logits)
    assert torch.allclose(weighed, 8 * weights[:, None, None] * mean, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"one loss an example"):
        estimator.losses(logits, lambda sample: sample.sum(1))


def test_func_transforms(estimator: CategoricalEstimator) -> None:
    logits, w, sample = torch.randn(6, K), torch.randn(K), one_hots(6)

    def loss(logits: Tensor, sample: Tensor) -> Tensor:
        return (estimator(logits, sample=sample) * w).cos().sum()

    def seeded(function: Any, *arguments: Tensor) -> Tensor:
        torch.manual_seed(0)
        return function(*arguments)

    leaf = logits.clone().requires_grad_()
    seeded(loss, leaf, sample).backward()
    assert leaf.grad is not None
    whole = seeded(torch.func.grad(loss), logits, sample)
    assert torch.allclose(whole, leaf.grad, rtol=0, atol=1e-6)
    vectorized = torch.func.vmap(torch.func.grad(loss), randomness="different")
    at_once = seeded(vectorized, logits, sample)
    if estimator.randomness == "sample":
        assert torch.allclose(at_once, leaf.grad, rtol=0, atol=1e-6)
    else:  # vmap draws in an order of its own
        assert at_once.isfinite().all()
        assert torch.allclose(at_once.sum(-1), torch.zeros(6), rtol=0, atol=1e-5)


def test_vmap_draws(estimator: CategoricalEstimator) -> None:
    sample = torch.func.vmap(estimator, randomness="different")(torch.randn(50, K))
    assert is_one_hot(sample)
    assert len(sample.unique(dim=0)) > 1


def test_compiled_equals_eager(estimator: CategoricalEstimator) -> None:
    logits, g, sample = torch.randn(6, K), torch.randn(6, K), one_hots(6)

    def run(function: Any) -> Tensor:
        leaf = logits.clone().requires_grad_()
        torch.manual_seed(0)
        function(leaf, sample=sample).backward(g)
        assert leaf.grad is not None
        return leaf.grad

    compiled = torch.compile(estimator, backend="aot_eager", fullgraph=True)
    assert torch.allclose(run(compiled), run(estimator), rtol=0, atol=1e-6)
    torch._dynamo.reset()


def test_autocast_changes_nothing(estimator: CategoricalEstimator) -> None:
    logits, g, sample = torch.randn(6, K), torch.randn(6, K), one_hots(6)

    def run(enabled: bool) -> Tensor:
        leaf = logits.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            out = estimator(leaf, sample=sample, generator=generator())
            out.backward(g)
        assert out.dtype == torch.float32
        assert leaf.grad is not None
        return leaf.grad

    assert torch.equal(run(True), run(False))


def test_copies_and_pickles(estimator: CategoricalEstimator) -> None:
    logits, sample = torch.randn(6, K), one_hots(6)
    for twin in (copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):
        assert repr(twin) == repr(estimator)
        assert torch.equal(twin(logits, sample=sample), estimator(logits, sample=sample))


def test_the_docstring_says_what_it_computes(estimator: CategoricalEstimator) -> None:
    text = " ".join((type(estimator).__doc__ or "").split())
    assert "Forward:" in text
    assert "Backward:" in text
    assert "evaluation of the loss" in text
    exact = estimator.exactness != "biased"
    claim = f"{estimator.exactness} losses" if exact else "biased"
    assert claim in text.lower()
    keys = re.findall(r"\[(\w+\d{4})\]", text)
    references = inspect.getmodule(type(estimator)).__doc__ or ""
    assert keys
    assert all(f"[{key}]" in references for key in keys)


@pytest.mark.parametrize("name", list(FILES))
def test_the_yaml_says_what_it_is_and_states_every_hyperparameter(name: str) -> None:
    assert FILES[name].read_text(encoding="utf-8").startswith("# ")
    node = OmegaConf.to_container(OmegaConf.load(FILES[name]))
    assert isinstance(node, dict)
    stated = {str(key) for key in node if key != "_target_"}
    signature = read_signature(str(node["_target_"]))
    assert signature.required == stated == set(signature.annotations)
    assert Any not in signature.annotations.values()  # checked before torch is imported
