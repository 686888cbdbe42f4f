"""The order of batches is a function of (seed, epoch), and processes share each batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from stelab.lab.data.datamodule import Batches

IMAGES = torch.arange(100.0)
NAMED = {"images": IMAGES, "labels": torch.arange(100) % 10}


def images_of(batches: Batches) -> list[Tensor]:
    return [batch["images"] for batch in batches]


def epoch_of(batches: Batches, epoch: int) -> Tensor:
    batches.set_epoch(epoch)
    return torch.cat(images_of(batches))


def test_every_image_once_and_the_last_smaller_batch_is_kept() -> None:
    batches = Batches(NAMED, batch_size=32, seed=0)
    sizes = [len(images) for images in images_of(batches)]
    assert sizes == [32, 32, 32, 4]
    assert len(batches) == 4
    assert torch.equal(epoch_of(batches, 0).sort().values, IMAGES)


def test_order_depends_on_seed_and_epoch_only() -> None:
    orders = {
        (seed, epoch): tuple(epoch_of(Batches(NAMED, batch_size=b, seed=seed), epoch).tolist())
        for b in (7, 32)
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    torch.manual_seed(123)
    again = Batches(NAMED, batch_size=32, seed=2)
    epoch_of(again, 0)
    assert tuple(epoch_of(again, 1).tolist()) == orders[2, 1]


def test_without_a_seed_the_order_is_kept() -> None:
    assert torch.equal(epoch_of(Batches(NAMED, batch_size=9, seed=None), 3), IMAGES)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_batches_of_one(world_size: int) -> None:
    alone = images_of(Batches(NAMED, batch_size=32, seed=5))
    shards = [
        images_of(Batches(NAMED, batch_size=32, seed=5, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for batch, *parts in zip(alone, *shards, strict=True):
        assert sorted(torch.cat(parts).tolist()) == sorted(batch.tolist())
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_process_without_an_image_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"leave 1 for 2 processes.*data.batch_size"):
        Batches(NAMED, batch_size=33, seed=0, world_size=2)


def test_all_tensors_are_in_one_order() -> None:
    for batch in Batches(NAMED, batch_size=32, seed=1):
        assert list(batch) == ["images", "labels"]
        assert torch.equal(batch["images"].long() % 10, batch["labels"])


def draw(batch: dict[str, Tensor], epoch: int, index: int) -> dict[str, Tensor]:
    """Say which place of which batch of which epoch an image has."""
    place = torch.arange(len(batch["images"]))
    return {**batch, "place": 10_000 * epoch + 100 * index + place}


@pytest.mark.parametrize("world_size", [1, 3])
def test_what_is_drawn_is_drawn_for_all_processes_together(world_size: int) -> None:
    options: dict[str, Any] = {"batch_size": 32, "seed": 5, "draw": draw, "epoch": 2}
    parts = [
        list(Batches(NAMED, rank=rank, world_size=world_size, **options))
        for rank in range(world_size)
    ]
    for index, shares in enumerate(zip(*parts, strict=True)):
        places = torch.cat([share["place"] for share in shares]).sort().values
        assert torch.equal(places, 20_000 + 100 * index + torch.arange(len(places)))
        assert all(tensor.is_contiguous() for share in shares for tensor in share.values())


def test_a_continued_epoch_draws_what_it_would_have_drawn() -> None:
    whole, rest = (Batches(NAMED, batch_size=32, seed=5, draw=draw, epoch=2) for _ in range(2))
    rest.load_state_dict({"resume": (2, 2)})
    expected = list(whole)[2:]
    for batch, again in zip(expected, rest, strict=True):
        assert all(torch.equal(again[name], tensor) for name, tensor in batch.items())
