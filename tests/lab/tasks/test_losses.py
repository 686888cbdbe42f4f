"""What every loss of images in conf/loss/ promises; a new YAML file is tested without an edit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import stelab
from stelab.engine.config import CONF_DIR
from stelab.lab.tasks.losses import Power

# But for what compares an output with labels, and what is of variables.
OTHERS = {"cross_entropy", "power"}
NAMES = sorted({path.stem for path in Path(CONF_DIR, "loss").glob("*.yaml")} - OTHERS)


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


def test_a_power_is_of_each_distance() -> None:
    values = torch.tensor([[0.0, 1.0, -1.5]], requires_grad=True)
    losses = Power(power=3.0)(values, torch.full_like(values, 0.5))
    assert losses.tolist() == [[0.125, 0.125, 8.0]]
    losses.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[-0.75, 0.75, -12.0]]
