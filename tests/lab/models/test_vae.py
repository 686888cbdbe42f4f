"""Discrete VAEs: what their weights begin with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import stelab
from stelab.lab.models.vae import BernoulliVAE
from stelab.lab.training.checkpoint_file import read_checkpoint
from stelab.lab.training.restore import load_data

CENTRE = "model.encoder.1.mean"


def build(*overrides: str) -> BernoulliVAE:
    torch.manual_seed(0)
    model = stelab.build(stelab.compose("task=elbo", "model.bits=5", *overrides).model)
    assert isinstance(model, BernoulliVAE)
    return model


@pytest.mark.parametrize("layers", ["hidden=[]", "hidden=[7,6]", "layers=2"])
def test_a_bernoulli_vae_begins_as_published(layers: str) -> None:
    """x - mean(train), and an output that says the mean: Dong et al. (2020), their launcher."""
    images = torch.rand(50, 1, 28, 28)
    images[:, :, :3], images[:, :, -3:] = 0, 1  # as MNIST's edges, whose logits are infinite
    model = build(f"model.{layers}")
    model.begin(images)
    mean = images.mean(0).flatten()
    assert torch.equal(model.encoder[:2](images), images.flatten(1) - mean)  # type: ignore[index]
    clipped = mean.clamp(0.001, 0.999)
    bias = model.decoder[0][-1].bias  # type: ignore[index]
    assert torch.allclose(bias, (clipped / (1 - clipped)).log(), rtol=1e-5, atol=1e-6)
    assert torch.equal(model.prior_logits, torch.zeros(5))


def test_it_sees_plain_pixels_where_that_is_asked_for() -> None:
    model = build("model.centre=half", "model.output_bias=random")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.rand(3, 1, 28, 28)
    model.begin(images)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(model.encoder[:2](images), 2 * images.flatten(1) - 1)  # type: ignore[index]
    # The other weights begin alike.
    published = build().state_dict()
    assert published.keys() - before.keys() == {"encoder.1.mean"}
    assert all(torch.equal(before[name], published[name]) for name in before)


def test_a_run_keeps_the_mean_of_its_training_images(tmp_path: Path) -> None:
    small = ("data=binarized_mnist5k", "data.limit=64", "trainer.max_epochs=1", "task.bounds=[]")
    choice = ("task=elbo", "model.bits=4", "trainer.accelerator=cpu", f"paths.outputs={tmp_path}")
    first = stelab.train(stelab.compose(*choice, *small))

    def mean(folder: Path) -> torch.Tensor:
        state = read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
        found: torch.Tensor = state[CENTRE]
        return found

    images = load_data(first, split="train").images("train")
    assert torch.equal(mean(first.folder), images.mean(0).flatten())
    # What another run's weights were trained with comes with them.
    warm = (*choice, *small, "data.split_seed=1", f"from_checkpoint={first.folder}")
    second = stelab.train(stelab.compose(*warm))
    assert not torch.equal(load_data(second, split="train").images("train"), images)
    assert torch.equal(mean(second.folder), mean(first.folder))
