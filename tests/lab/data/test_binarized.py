"""Binarized digits: when they are drawn, from what, and with which probability."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import stelab
from stelab.lab.data import ImageDataModule
from stelab.lab.data.datamodule import Batches, seeded

SMALL = ("data=binarized_mnist5k", "data.limit=64", "data.batch_size=24")


def build(*overrides: str) -> ImageDataModule:
    return stelab.build(stelab.compose(*overrides).data)


def grey(split: str) -> Tensor:
    return build("data=mnist5k", "data.mean=0", "data.std=1", "data.limit=64").images(split)


def train(data: ImageDataModule, *, epoch: int) -> list[dict[str, Tensor]]:
    batches = data.train_dataloader()
    assert isinstance(batches, Batches)
    batches.set_epoch(epoch)
    return list(batches)


def is_binary(images: Tensor) -> bool:
    return images.unique().tolist() == [0, 1]


@pytest.mark.parametrize("binarization", ["dynamic", "static", "threshold"])
def test_pixels_are_0_or_1_and_the_format_says_so(binarization: str) -> None:
    data = build(*SMALL, f"data.binarization={binarization}")
    assert all(is_binary(batch["images"]) for batch in train(data, epoch=0))
    assert all(is_binary(data.images(split)) for split in ("val", "test"))
    assert data.format.range == (0, 1)
    assert data.format.denormalize(data.images("test")).unique().tolist() == [0, 255]


def test_the_threshold_is_grey_above_one_half() -> None:
    data = build(*SMALL, "data.binarization=threshold")
    for split in ("train", "val", "test"):
        assert torch.equal(data.images(split), (grey(split) > 0.5).float())


def test_dynamic_bits_depend_on_seed_epoch_and_batch_only() -> None:
    first, again = (train(build(*SMALL), epoch=3) for _ in range(2))
    for batch, same in zip(first, again, strict=True):
        assert torch.equal(batch["images"], same["images"])
        assert torch.equal(batch["labels"], same["labels"])
    data = build(*SMALL, "data.limit=24")  # one batch: its images do not change, their order does
    drawn = [train(data, epoch=epoch)[0]["images"] for epoch in range(2)]
    other = train(build(*SMALL, "data.limit=24", "seed=1"), epoch=0)[0]["images"]
    counts = [images.sum().item() for images in (*drawn, other)]
    assert len(set(counts)) == 3


def test_dynamic_bits_are_those_of_their_seed() -> None:
    batches = build(*SMALL).train_dataloader()
    batches.set_epoch(2)
    order = torch.randperm(64, generator=seeded(0, 2)).split(24)
    for index, batch in enumerate(batches):
        probability = grey("train")[order[index]]
        uniform = torch.rand(probability.shape, generator=seeded(0, 2, index, 1))
        assert torch.equal(batch["images"], (uniform < probability).float())


def test_the_mean_over_epochs_is_grey() -> None:
    data, epochs = build(*SMALL, "data.limit=8", "data.batch_size=8"), 400
    probability = grey("train")[:8].double()
    total = torch.zeros_like(probability)
    for epoch in range(epochs):
        order = torch.randperm(8, generator=seeded(0, epoch))
        (batch,) = train(data, epoch=epoch)
        total[order] += batch["images"]
    variance = epochs * probability * (1 - probability)
    certain = variance == 0
    assert torch.equal(total[certain], epochs * probability[certain])
    z = (total - epochs * probability) / variance.sqrt()
    assert abs(z[~certain].sum().item()) / math.sqrt((~certain).sum().item()) < 4
    assert z[variance > 25].abs().max() < 4  # one by one, where a count is nearly normal


def test_what_is_drawn_once_depends_on_the_splits_seed_alone() -> None:
    one = build(*SMALL, "data.binarization=static")
    two = build(*SMALL, "seed=1")
    for split in ("val", "test"):
        assert torch.equal(one.images(split), two.images(split))
        certain = (grey(split) == 0) | (grey(split) == 1)
        assert torch.equal(one.images(split)[certain], grey(split)[certain])
    assert torch.equal(train(one, epoch=0)[0]["images"], train(one, epoch=0)[0]["images"])
    mean = torch.stack([one.images("train"), grey("train")]).mean((1, 2, 3, 4))
    assert mean[0].item() == pytest.approx(mean[1].item(), abs=0.005)
    again = build(*SMALL, "data.binarization=static", "seed=1")
    assert torch.equal(one.images("train"), again.images("train"))


def test_splits_are_of_different_draws() -> None:
    whole = [build("data=binarized_mnist5k", f"data.split_seed={seed}") for seed in (0, 1)]
    assert whole[0].images("test").sum() != whole[1].images("test").sum()


def test_all_of_mnist_is_split_as_usual(mnist_root: Path) -> None:
    data = build("data=binarized_mnist", f"data.root={mnist_root}", "data.binarization=threshold")
    sizes = [len(data.images(split)) for split in ("train", "val", "test")]
    assert sizes == [50_000, 10_000, 10_000]
    images = build("data=mnist", f"data.root={mnist_root}", "data.mean=0", "data.std=1")
    assert torch.equal(data.images("test"), (images.images("test") > 0.5).float())
    ours, labels = data.labels("test"), images.labels("test")
    assert ours is not None and labels is not None and torch.equal(ours, labels)
