"""Thresholds along any dimension but the batch's: what `dim=1` computes, with it moved there."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from stelab.binarizer import Binarizer
from stelab.estimators import Identity
from stelab.thresholds import (
    BatchQuantileThreshold,
    LearnedThreshold,
    RunningQuantileThreshold,
    Threshold,
)

MADE: dict[str, Callable[[int], Threshold]] = {
    "learned": lambda dim: learned(dim),
    "batch": lambda dim: BatchQuantileThreshold(quantile=0.3, dim=dim),
    "running": lambda dim: RunningQuantileThreshold(
        channels=3, quantile=0.3, momentum=0.25, dim=dim
    ),
}
SIZED = ["learned", "running"]


def learned(dim: int) -> LearnedThreshold:
    threshold = LearnedThreshold(channels=3, init=0.0, dim=dim)
    threshold.theta.data = torch.tensor([-0.5, 0.25, 1.0])
    return threshold


@pytest.mark.parametrize("dim", [1, 2, 3, -1, -2, -3])
@pytest.mark.parametrize("name", MADE)
def test_channels_in_any_dimension(name: str, dim: int) -> None:
    x = torch.randn(4, 3, 5, 2)
    first, moved = MADE[name](1), MADE[name](dim)
    for _ in range(2):  # the running one starts, and averages
        theta = moved(x.movedim(1, dim))
        assert (
            torch.broadcast_shapes(theta.shape, x.movedim(1, dim).shape) == x.movedim(1, dim).shape
        )
        assert torch.equal(theta.flatten(), first(x).flatten())
        x = 2 * x + 1
    layers = (Binarizer(threshold=t.eval(), estimator=Identity()) for t in (first, moved))
    mine, theirs = (layer(x.movedim(1, d)) for layer, d in zip(layers, (1, dim), strict=True))
    assert torch.equal(mine.movedim(1, dim), theirs)


def test_the_last_dimension_of_tokens() -> None:
    x = torch.tensor([[[1.0, -1.0], [0.0, 0.0]]])  # (batch, tokens, features)
    threshold = LearnedThreshold(channels=2, init=0.0, dim=-1)
    layer = Binarizer(threshold=threshold, estimator=Identity())
    layer(x).backward(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
    assert threshold.theta.grad is not None
    assert threshold.theta.grad.tolist() == [-4, -6]


@pytest.mark.parametrize("name", MADE)
def test_the_batch_has_no_thresholds(name: str) -> None:
    with pytest.raises(ValueError, match="dim must be a dimension of channels, not 0"):
        MADE[name](0)
    with pytest.raises(ValueError, match="dim must be a valid integer, got 1.5"):
        MADE[name](1.5)  # type: ignore[arg-type]
    for dim, shape in ((-2, (7, 3)), (-1, (7,)), (2, (7, 3)), (-4, (7, 3, 2))):
        with pytest.raises(ValueError, match=rf"channels in dim {dim}, but x has shape \(7"):
            MADE[name](dim)(torch.randn(shape))


@pytest.mark.parametrize("name", SIZED)
def test_the_message_names_the_dimension(name: str) -> None:
    threshold = MADE[name](-1)
    with pytest.raises(ValueError, match=r"3 channels in dim -1, .*\(2, 3, 4\): expected size 3"):
        threshold(torch.randn(2, 3, 4))
    assert "dim=-1" in repr(threshold)
    assert torch.equal(
        copy.deepcopy(threshold)(torch.ones(2, 4, 3)), threshold(torch.ones(2, 4, 3))
    )
