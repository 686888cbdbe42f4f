"""Free logits: the laws of their variables, and what these can be."""

from __future__ import annotations

import pytest
import torch

import stelab
from stelab.engine.errors import InputError
from stelab.lab.models import Logits


def build(*overrides: str) -> Logits:
    model: Logits = stelab.build(stelab.compose("task=minimize", *overrides).model)
    return model


def test_they_begin_within_the_spread_and_are_the_same_for_every_image() -> None:
    model = build("model.bits=1000", "model.spread=0.5")
    x = model.encoder(torch.randn(3, 1, 28, 28))
    assert x.shape == (3, 1000)
    assert torch.equal(x[0], x[2])
    assert -0.5 <= x.min() < -0.45
    assert 0.45 < x.max() <= 0.5
    assert build("model.spread=0").encoder(torch.zeros(1, 1, 1, 1)).abs().max() == 0


def test_bits_have_the_law_of_their_estimator() -> None:
    x = torch.tensor([[0.0, 3.0]]).log1p()  # odds of 1 and 4
    drawn = torch.tensor([[[0.5, 0.5], [0.2, 0.8]]])
    assert torch.allclose(build().law(x), drawn)
    fixed = build("estimator=identity").law(x)
    assert fixed.tolist() == [[[1, 0], [0, 1]]]
    assert torch.allclose(build("threshold.value=-9").law(x - 9), drawn)


def test_values_are_those_of_codes() -> None:
    images = torch.zeros(200, 1, 1, 1)
    signed = build("+model.binarizer.signed=true")
    assert signed.values().tolist() == [-1, 1]
    assert signed(images).unique().tolist() == [-1, 1]
    one_hots = build("model=logits_categorical", "model.classes=3")
    assert one_hots.values().tolist() == [0, 1, 2]
    assert one_hots(images).unique().tolist() == [0, 1, 2]
    code = torch.eye(3)[torch.tensor([[2, 0], [1, 1]])]
    assert one_hots.decode(code).tolist() == [[2, 0], [1, 1]]
    x = torch.tensor([[[1.0, 2.0, 5.0]]]).log()
    assert torch.allclose(one_hots.law(x), torch.tensor([[[0.125, 0.25, 0.625]]]))


def test_classes_stand_for_numbers_of_ones_own() -> None:
    numbers = ("model=logits_categorical", "model.classes=3", "model.values=[1,0.25,-2]")
    one_hots = build(*numbers)
    assert one_hots.values().tolist() == [1, 0.25, -2]
    assert one_hots(torch.zeros(200, 1, 1, 1)).unique().tolist() == [-2, 0.25, 1]
    code = torch.eye(3)[torch.tensor([[2, 0], [1, 1]])]
    assert one_hots.decode(code).tolist() == [[-2, 1], [0.25, 0.25]]


def test_each_class_has_a_number() -> None:
    with pytest.raises(InputError, match=r"one number for each of 4 classes, got 2: \[0.0, 1.0\]"):
        build("model=logits_categorical", "model.classes=4", "model.values=[0,1]")
