"""What all image datasets share: splits, normalization, and which images make which batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Generator, Tensor

from stelab.engine.errors import InputError

MEAN, STD = 0.5, 0.5


def normalize(pixels: Tensor) -> Tensor:
    """Map uint8 pixels ``(n, 28, 28)`` to float32 images ``(n, 1, 28, 28)`` in [-1, 1]."""
    images = pixels.to(torch.float32, copy=True)  # in place from here: a dataset is large
    return images.div_(255).sub_(MEAN).div_(STD).unsqueeze(1)


def denormalize(images: Tensor) -> Tensor:
    """Map images ``(n, 1, 28, 28)`` in [-1, 1] to uint8 pixels ``(n, 28, 28)``, rounding."""
    return ((images.float() * STD + MEAN) * 255).round().clamp(0, 255).to(torch.uint8).squeeze(1)


@dataclass(eq=False, repr=False)
class Batches:
    """Iterate over images in batches; the last, smaller batch is kept.

    Their order depends on `seed` and epoch; without a seed it stays as it is. `batch_size` counts
    the images of all processes together, so that a run takes the same optimizer steps on one device
    and on several: process `rank` takes every `world_size`-th image of each batch.
    """

    images: Tensor
    _: KW_ONLY
    batch_size: int
    seed: int | None
    rank: int = 0
    world_size: int = 1
    epoch: int = 0
    resume: tuple[int, int] = field(default=(0, 0), init=False)  # epoch and batch

    def __post_init__(self) -> None:
        last = len(self.images) % self.batch_size or self.batch_size
        if last < self.world_size:
            raise ValueError(
                f"every process needs an image of every batch, but {len(self.images)} images in "
                f"batches of {self.batch_size} leave {last} for {self.world_size} processes in the "
                "last; change data.batch_size"
            )

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
        """Return where to resume."""
        return {"resume": self.resume}

    def load_state_dict(self, state: dict[str, tuple[int, int]]) -> None:
        """Skip the batches before that batch in that epoch."""
        self.resume = state["resume"]

    def __iter__(self) -> Iterator[Tensor]:
        epoch, start = self.resume
        order = torch.arange(len(self.images))
        if self.seed is not None:
            order = torch.randperm(len(order), generator=seeded(self.seed, self.epoch))
        batches = order.to(self.images.device).split(self.batch_size)
        for batch in batches[start if self.epoch == epoch else 0 :]:
            yield self.images[batch[self.rank :: self.world_size]]


def seeded(*numbers: int, device: torch.device | str = "cpu") -> Generator:
    """Return a generator, seeded with a hash: (0, 1) is another seed than (1, 0) or (1,)."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]) >> 1)


class ImageDataModule(pl.LightningDataModule):
    """Splits of a dataset, in batches whose order depends on (seed, epoch) only.

    A dataset defines `load`. A split is loaded when it is first asked for, and its images move to
    the training device once, as one tensor.

    Attributes:
        may_download: Whether absent files may be downloaded: not where a run's own record names
            their folder.
    """

    may_download = True

    def __init__(self, *, limit: int | None, batch_size: int, seed: int):
        super().__init__()
        self.limit = limit
        self.batch_size = batch_size
        self.seed = seed
        self._splits: dict[str, Tensor] = {}

    def load(self, split: str) -> Tensor:
        """Return all images ``(n, 1, 28, 28)`` of a split, normalized, in a fixed order.

        `prepare_data` has made sure that they are on this machine.
        """
        raise NotImplementedError(f"{type(self).__name__} must define load(split)")

    def images(self, split: str) -> Tensor:
        """Return the first `limit` images of ``"train"``, ``"val"`` or ``"test"``.

        Raises:
            InputError: There are none.
        """
        if not self.has(split):
            raise InputError(f"the {split} split is empty: data.{split}_size is 0")
        return self._splits[split]

    def test_labels(self) -> Tensor | None:
        """Return the classes of the test images, shape ``(n,)``; None where there are none."""
        return None

    def has(self, split: str) -> bool:
        """Return whether a split has any images."""
        if split not in self._splits:
            self._splits[split] = self.load(split)[: self.limit]
        return len(self._splits[split]) > 0

    def batches_per_epoch(self, limit: int | float) -> int:
        """Return the training batches of an epoch: at most `limit`, or that share of all."""
        batches = -(-len(self.images("train")) // self.batch_size)
        return min(limit, batches) if isinstance(limit, int) else int(limit * batches)

    def probe(self, at_most: int = 5000) -> Tensor:
        """Return the images that monitors encode: the validation split, else training images."""
        return self.images("val" if self.has("val") else "train")[:at_most]

    def train_dataloader(self) -> Batches:
        """Return the training batches, reshuffled every epoch but for trainer.overfit_batches."""
        overfits = self.trainer is not None and self.trainer.overfit_batches > 0  # type: ignore[attr-defined]
        return self._batches("train", seed=None if overfits else self.seed)

    def val_dataloader(self) -> Batches:
        """Return the validation batches in order."""
        return self._batches("val", seed=None)

    def test_dataloader(self) -> Batches:
        """Return the test batches in order."""
        return self._batches("test", seed=None)

    def _batches(self, split: str, *, seed: int | None) -> Batches:
        images, shares = self.images(split), dict[str, int]()
        if self.trainer is not None:
            images = images.to(self.trainer.strategy.root_device)
            shares = {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
        return Batches(images, batch_size=self.batch_size, seed=seed, **shares)


def hold_out(labels: Tensor, size: int, *, seed: int, key: str, of: str) -> tuple[Tensor, Tensor]:
    """Split indices, stratified by label: ``(kept, held out)``, each in a shuffled order."""
    if size >= len(labels):
        raise InputError(f"{key} must leave images to train on: got {size} of {len(labels)} {of}")
    if size == 0:
        return torch.arange(len(labels)), torch.arange(0)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    # Rank images within their class, then cut at equal fractions of every class.
    position = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = order[labels[order] == label]
        position[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    by_position = order[position[order].argsort(stable=True)]
    held = torch.isin(order, by_position[:size])
    return order[~held], order[held]
