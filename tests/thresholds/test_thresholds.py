"""Where the step sits, and what a trained threshold receives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import stelab
from stelab.binarizer import Binarizer
from stelab.engine.config import CONF_DIR
from stelab.estimators import HardtanhClip, Identity
from stelab.thresholds import FixedThreshold, LearnedThreshold, Threshold

NAMES = sorted(path.stem for path in Path(CONF_DIR, "threshold").glob("*.yaml"))


@pytest.fixture(params=NAMES)
def threshold(request: pytest.FixtureRequest) -> Threshold:
    return stelab.build(stelab.compose(f"threshold={request.param}", "model.bits=5").threshold)


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 1, 1), (7, 5, 3, 2)])
def test_theta_broadcasts_to_x(threshold: Threshold, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert torch.broadcast_shapes(threshold(x).shape, x.shape) == x.shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.25, -1.5, 0.1])
def test_fixed_is_strictly_above_and_zero_at_the_tie(dtype: torch.dtype, value: float) -> None:
    layer = Binarizer(threshold=FixedThreshold(value=value), estimator=Identity())
    x = torch.randn(1000, 1).to(dtype)
    x[0] = value
    assert torch.equal(layer(x), (x > value).to(dtype))
    assert layer(x)[0] == 0


def test_fixed_leaves_no_state() -> None:
    assert not FixedThreshold(value=0.5).state_dict()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0"])
def test_fixed_refuses_what_is_not_finite(value: object) -> None:
    with pytest.raises(ValueError, match="value"):
        FixedThreshold(value=value)  # type: ignore[arg-type]


def test_learned_receives_minus_the_sum_of_the_estimates() -> None:
    threshold = LearnedThreshold(channels=3, init=0.25)
    layer = Binarizer(threshold=threshold, estimator=HardtanhClip(bound=1.0))
    x = torch.randn(8, 3, 2, 2, requires_grad=True)
    layer(x).backward(3 * torch.randn(8, 3, 2, 2))
    assert x.grad is not None
    assert threshold.theta.grad is not None
    expected = -x.grad.sum(dim=(0, 2, 3))
    assert torch.allclose(threshold.theta.grad, expected, rtol=0, atol=1e-5)
    assert threshold.theta.tolist() == [0.25] * 3


def test_learned_names_the_shape_it_wants() -> None:
    with pytest.raises(ValueError, match=r"3 channels.*\(2, 4\).*size 3 in dim 1"):
        LearnedThreshold(channels=3, init=0.0)(torch.randn(2, 4))
