"""Signatures read from source agree with the imported ones."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

from stelab.engine.config.signature import read_signature

TARGETS = [
    "stelab.estimators.Identity",
    "stelab.estimators.HardtanhClip",
    "stelab.thresholds.FixedThreshold",
    "stelab.thresholds.LearnedThreshold",
    "stelab.lab.models.conv",
    "stelab.lab.models.mlp",
    "stelab.lab.data.MNIST",
    "stelab.lab.data.MNIST5k",
    "stelab.lab.data.BinarizedMNIST",
    "stelab.lab.data.CIFAR10",
    "stelab.lab.data.ImageFolder",
    "stelab.lab.data.NPZ",
    "stelab.lab.training.SquaredError",
    "torch.optim.Adam",
    "torch.optim.SGD",
    "torch.optim.lr_scheduler.CosineAnnealingLR",
    "pytorch_lightning.callbacks.ModelCheckpoint",
]


def imported(target: str) -> Any:
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("target", TARGETS)
def test_parameters_are_those_of_the_real_thing(target: str) -> None:
    real = inspect.signature(imported(target)).parameters
    if "Identity" in target:
        real = inspect.signature(lambda: None).parameters  # nn.Module takes *args, it uses none
    read = read_signature(target)
    assert list(read.annotations) == [n for n, p in real.items() if p.kind != p.VAR_KEYWORD]
    needed = {n for n, p in real.items() if p.kind == p.KEYWORD_ONLY and p.default is p.empty}
    assert read.required == needed


def test_of_a_module_that_was_made_at_run_time_a_mistake_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "made", ModuleType("made"))
    with pytest.raises(LookupError, match="there is no 'Net' in made"):
        read_signature("made.Net")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("stelab.estimators.Nope", "there is no 'Nope' in stelab.estimators"),
        ("stelab.nowhere.Nope", "there is no module 'stelab.nowhere'"),
        ("nowhere.Nope", "there is no package 'nowhere'"),
        ("Nope", "not a dotted name"),
    ],
)
def test_what_is_not_there_is_named(target: str, expected: str) -> None:
    with pytest.raises(LookupError, match=expected):
        read_signature(target)
