"""A threshold that moves with training."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch

from conftest import train
from stelab import Binarizer
from stelab.annealing import advance
from stelab.lab.training.restore import restore
from stelab.thresholds import AnnealedThreshold


def at(progress: float, *, start: float = -1.0, end: float = 3.0) -> AnnealedThreshold:
    threshold = AnnealedThreshold(start=start, end=end)
    advance(threshold, progress)
    return threshold


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("progress", "theta"), [(0.0, -1.0), (0.25, 0.0), (0.5, 1.0), (0.75, 2.0), (1.0, 3.0)]
)
def test_theta_moves_in_a_line(dtype: torch.dtype, progress: float, theta: float) -> None:
    value = at(progress)(torch.zeros(2, 3, dtype=dtype))
    assert value.shape == ()
    assert value.dtype == dtype
    assert value.item() == theta


def test_it_starts_at_the_start_and_stays_without_training() -> None:
    threshold = AnnealedThreshold(start=0.25, end=0.75)
    for _ in range(3):
        assert threshold(torch.zeros(2, 3)).item() == 0.25


def test_its_place_travels_in_the_state_dict() -> None:
    threshold, other = at(0.5), at(0.0)
    assert list(threshold.state_dict()) == ["progress"]
    other.load_state_dict(threshold.state_dict())
    assert other(torch.zeros(2, 3)).item() == 1.0


def test_copies_and_pickles() -> None:
    threshold, x = at(0.25), torch.zeros(2, 3)
    for twin in (copy.deepcopy(threshold), pickle.loads(pickle.dumps(threshold))):
        assert repr(twin) == repr(threshold)
        advance(twin, 1.0)
        assert twin(x).item() == 3.0
        assert threshold(x).item() == 0.0


@pytest.mark.parametrize("name", ["start", "end"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0"])
def test_what_is_not_finite_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        AnnealedThreshold(**{"start": 0.0, "end": 1.0, name: value})  # type: ignore[arg-type]


def test_a_restored_checkpoint_stands_where_training_ended(tmp_path: Path) -> None:
    run = train(tmp_path, "threshold=annealed", "threshold.start=0.0", "threshold.end=0.25")
    module = restore(run, checkpoint="last")
    layer = module.model.binarizer
    assert isinstance(layer, Binarizer)
    threshold = layer.threshold
    assert 0.0 < threshold(torch.zeros(1, 1)).item() <= 0.25
    images = torch.rand(9, 1, 28, 28)
    with torch.no_grad():
        theta = threshold(images)
        assert torch.equal(
            module.model.encode(images), (module.model.encoder(images) > theta) * 1.0
        )
