"""Which images make which batch: a function of (seed, epoch), split over processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Generator, Tensor


class Batches:
    """Iterate over images in batches; the last, smaller batch is kept.

    All images are one tensor, so a batch is one indexing. Their order depends on `seed` and epoch;
    without a seed it stays as it is. `batch_size` counts the images of all processes together: a
    run takes the same optimizer steps on one device and on several, and process `rank` takes every
    `world_size`-th image of each batch.

    Raises:
        ValueError: The last batch has fewer images than there are processes.
    """

    def __init__(
        self,
        images: Tensor,
        *,
        batch_size: int,
        seed: int | None,
        rank: int = 0,
        world_size: int = 1,
    ):
        last = len(images) % batch_size or batch_size
        if last < world_size:
            raise ValueError(
                f"every process needs an image of every batch, but {len(images)} images in batches "
                f"of {batch_size} leave {last} for {world_size} processes in the last; "
                "change data.batch_size"
            )
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.resume: tuple[int, int] = (0, 0)

    # Lightning reads these two names of a torch DataLoader, to call `set_epoch` on the sampler.
    batch_sampler = None

    @property
    def sampler(self) -> Batches:
        """Return what decides the order: these batches themselves."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def state_dict(self) -> dict[str, tuple[int, int]]:
        """Return where to resume, ``(epoch, batch)``."""
        return {"resume": self.resume}

    def load_state_dict(self, state: dict[str, tuple[int, int]]) -> None:
        """Skip the batches before that batch in that epoch."""
        self.resume = state["resume"]

    def __iter__(self) -> Iterator[Tensor]:
        epoch, start = self.resume
        batches = self._order().split(self.batch_size)
        for batch in batches[start if self.epoch == epoch else 0 :]:
            yield self.images[batch[self.rank :: self.world_size]]

    def _order(self) -> Tensor:
        size, device = len(self.images), self.images.device
        if self.seed is None:
            return torch.arange(size, device=device)
        return torch.randperm(size, generator=seeded(self.seed, self.epoch)).to(device)


def seeded(*numbers: int, device: torch.device | str = "cpu") -> Generator:
    """Return a generator, seeded with a hash: (0, 1) is another seed than (1, 0) or (1,)."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]) >> 1)
