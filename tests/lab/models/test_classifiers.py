"""Classifiers of binary layers and weights."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import stelab
from stelab import BinaryConv2d, BinaryLinear
from stelab.engine.errors import InputError
from stelab.lab.models import Classifier
from stelab.lab.training import build_module
from stelab.lab.training.check import require_fit


def network(*overrides: str) -> Classifier:
    model = build_module(stelab.compose("task=classify", "data=mnist5k", *overrides)).model
    assert isinstance(model, Classifier)
    return model


def pairs(model: Classifier) -> list[Any]:
    return [*cast(Any, model.chain.layers)]


def kinds(model: nn.Module, *classes: type[nn.Module]) -> int:
    return sum(isinstance(part, classes) for part in model.modules())


def test_the_perceptron_is_binary_throughout() -> None:
    model = network("model.bits=32", "model.layers=3").eval()
    assert kinds(model, BinaryLinear) == 4
    x = images = torch.randn(5, 1, 28, 28)
    for make, binarizer in pairs(model):
        x = binarizer(make(x))
        assert x.unique().tolist() == [-1, 1]
    assert torch.equal(model.readout(x), model(images))
    assert model(images).shape == (5, 10)
    for part in model.modules():
        if isinstance(part, BinaryLinear):
            assert part.binary_weight().unique().tolist() == [-1, 1]


def test_weights_may_be_real_and_others_trained_by_another_estimator() -> None:
    assert kinds(network("model.bits=8", "model.weights=null"), BinaryLinear) == 0
    model = network("model.bits=8", "estimator@model.weights=identity")
    estimators = {
        type(p.estimator).__name__ for p in model.modules() if isinstance(p, BinaryLinear)
    }
    assert estimators == {"Identity"}
    assert kinds(network("model=binary_conv", "model.layers=3"), BinaryConv2d) == 2
    assert kinds(network("model=binary_conv", "model.weights=null"), BinaryConv2d) == 0


def test_what_makes_no_logits_is_refused() -> None:
    module = build_module(stelab.compose("task=classify", "data=mnist5k", "model=mlp"))
    batch = {"images": torch.zeros(2, 1, 28, 28), "labels": torch.zeros(2, dtype=torch.int64)}
    with pytest.raises(InputError, match=r"\(batch, classes\), but makes \(2, 1, 28, 28\) of 2 im"):
        require_fit(module, batch)


@pytest.mark.parametrize("name", ["binary_mlp", "binary_conv"])
def test_one_pass_estimators_are_backpropagated(name: str) -> None:
    """The nested losses give what the output's own gradient is."""
    model = network(f"model={name}", "model.bits=16", "estimator=clipped_input").train()
    images, labels = torch.randn(6, 1, 28, 28), torch.arange(6)

    def outcome(output: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output, labels, reduction="none")

    gradients = []
    for losses in (
        lambda: outcome(model(images)),
        lambda: model.losses(model.encode(images), outcome, generator=None),
    ):
        model.zero_grad()
        losses().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_layers_estimators_are_their_own() -> None:
    model = network("model.bits=8", "estimator=rebar", "model.layers=1")
    assert sum(not p.requires_grad for p in model.parameters()) == 2
    with pytest.raises(InputError, match=r"Rebar \(layer 1 of 2\)"):
        network("model.bits=8", "estimator=rebar", "model.layers=2")
    model = network("model.bits=8", "threshold=learned", "model.layers=3")
    assert len({id(layer.threshold) for _, layer in pairs(model)}) == 3
