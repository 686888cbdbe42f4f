"""What every loss of images in conf/loss/ promises; a new YAML file is tested without an edit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import stelab
from stelab.engine.config import CONF_DIR

# But for what compares an output with labels.
NAMES = sorted({path.stem for path in Path(CONF_DIR, "loss").glob("*.yaml")} - {"cross_entropy"})


@pytest.fixture(params=NAMES)
def loss(request: pytest.FixtureRequest) -> nn.Module:
    return stelab.build(stelab.compose(f"loss={request.param}").loss)


def test_it_is_one_number_an_example_of_its_own(loss: nn.Module) -> None:
    images, reconstruction = (2 * torch.rand(7, 1, 28, 28) - 1 for _ in range(2))
    losses = loss(reconstruction, images)
    assert losses.shape == (7,)
    assert losses.isfinite().all()
    images[0], reconstruction[0] = 1.0, -1.0
    assert torch.equal(loss(reconstruction, images)[1:], losses[1:])


def test_its_gradient_reaches_every_reconstruction(loss: nn.Module) -> None:
    images, reconstruction = (2 * torch.rand(7, 1, 28, 28) - 1 for _ in range(2))
    loss(reconstruction.requires_grad_(), images).sum().backward()
    assert reconstruction.grad is not None
    assert reconstruction.grad.isfinite().all()
    assert (reconstruction.grad != 0).flatten(1).any(1).all()
