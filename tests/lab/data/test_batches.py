"""The order of batches is a function of (seed, epoch), and processes share each batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stelab.lab.data.datamodule import Batches

IMAGES = torch.arange(100.0)


def epoch_of(batches: Batches, epoch: int) -> Tensor:
    batches.set_epoch(epoch)
    return torch.cat(list(batches))


def test_every_image_once_and_the_last_smaller_batch_is_kept() -> None:
    batches = Batches(IMAGES, batch_size=32, seed=0)
    sizes = [len(batch) for batch in batches]
    assert sizes == [32, 32, 32, 4]
    assert len(batches) == 4
    assert torch.equal(epoch_of(batches, 0).sort().values, IMAGES)


def test_order_depends_on_seed_and_epoch_only() -> None:
    orders = {
        (seed, epoch): tuple(epoch_of(Batches(IMAGES, batch_size=b, seed=seed), epoch).tolist())
        for b in (7, 32)
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    torch.manual_seed(123)
    again = Batches(IMAGES, batch_size=32, seed=2)
    epoch_of(again, 0)
    assert tuple(epoch_of(again, 1).tolist()) == orders[2, 1]


def test_without_a_seed_the_order_is_kept() -> None:
    assert torch.equal(epoch_of(Batches(IMAGES, batch_size=9, seed=None), 3), IMAGES)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_batches_of_one(world_size: int) -> None:
    alone = list(Batches(IMAGES, batch_size=32, seed=5))
    shards = [
        list(Batches(IMAGES, batch_size=32, seed=5, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for batch, *parts in zip(alone, *shards, strict=True):
        assert sorted(torch.cat(parts).tolist()) == sorted(batch.tolist())
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_process_without_an_image_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"leave 1 for 2 processes.*data.batch_size"):
        Batches(IMAGES, batch_size=33, seed=0, world_size=2)
