"""What all image datasets share: splits, normalization, loaders."""

from __future__ import annotations

from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch import Tensor

from stelab.data.batches import Batches
from stelab.errors import InputError

MEAN, STD = 0.5, 0.5


def normalize(pixels: Tensor) -> Tensor:
    """Map uint8 pixels ``(n, 28, 28)`` to float32 images ``(n, 1, 28, 28)`` in [-1, 1]."""
    return ((pixels.float() / 255 - MEAN) / STD).unsqueeze(1)


def denormalize(images: Tensor) -> Tensor:
    """Map images ``(n, 1, 28, 28)`` in [-1, 1] to uint8 pixels ``(n, 28, 28)``, rounding."""
    return ((images.float() * STD + MEAN) * 255).round().clamp(0, 255).to(torch.uint8).squeeze(1)


@dataclass(frozen=True)
class Splits:
    """Normalized images ``(n, 1, 28, 28)`` to train, validate and test on."""

    train: Tensor
    val: Tensor
    test: Tensor


class ImageDataModule(pl.LightningDataModule):
    """Splits of a dataset, in batches whose order depends on (seed, epoch) only.

    A dataset defines `load`. The images move to the training device once, as one tensor.

    Attributes:
        may_download: Whether what is absent may be downloaded. Not where a run that was read says
            where to.
    """

    may_download = True

    def __init__(self, *, limit: int | None, batch_size: int, seed: int):
        super().__init__()
        self.limit = limit
        self.batch_size = batch_size
        self.seed = seed
        self.splits: Splits | None = None

    def load(self) -> Splits:
        """Return all images; `prepare_data` has made sure that they are on this machine."""
        raise NotImplementedError(f"{type(self).__name__} must define load()")

    def setup(self, stage: str | None = None) -> None:
        """Load, normalize and cut to `limit`, once a process."""
        if self.splits is None:
            full = self.load()
            cut = slice(self.limit)
            self.splits = Splits(train=full.train[cut], val=full.val[cut], test=full.test[cut])

    def images(self, split: str) -> Tensor:
        """Return the images of ``"train"``, ``"val"`` or ``"test"``, in a fixed order."""
        self.setup()
        images: Tensor = getattr(self.splits, split)
        if not len(images):
            raise InputError(f"the {split} split is empty: data.{split}_size is 0")
        return images

    def test_labels(self) -> Tensor | None:
        """Return the classes of the test images, shape ``(n,)``; None where there are none."""
        return None

    def has(self, split: str) -> bool:
        """Tell whether a split has any images."""
        self.setup()
        return len(getattr(self.splits, split)) > 0

    def steps_per_epoch(self) -> int:
        """Return the number of training batches."""
        return -(-len(self.images("train")) // self.batch_size)

    def probe(self, at_most: int = 5000) -> Tensor:
        """Return images to look at the code with: the validation split, else training images."""
        return self.images("val" if self.has("val") else "train")[:at_most]

    def train_dataloader(self) -> Batches:
        """Return the training batches, reshuffled every epoch."""
        return self._batches("train", seed=self.seed)

    def val_dataloader(self) -> Batches:
        """Return the validation batches in order."""
        return self._batches("val", seed=None)

    def test_dataloader(self) -> Batches:
        """Return the test batches in order."""
        return self._batches("test", seed=None)

    def _batches(self, split: str, *, seed: int | None) -> Batches:
        images = self.images(split)
        if self.trainer is None:
            return Batches(images, batch_size=self.batch_size, seed=seed)
        return Batches(
            images.to(self.trainer.strategy.root_device),
            batch_size=self.batch_size,
            seed=seed,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )


def hold_out(
    labels: Tensor, size: int, *, seed: int, what: str, among: str
) -> tuple[Tensor, Tensor]:
    """Split indices, stratified by label: ``(kept, held out)``, each in a shuffled order.

    Args:
        labels: Class of every image, shape ``(n,)``.
        size: Number of images to hold out.
        seed: Decides which.
        what: Name of the configuration key of `size`, for the message.
        among: What is split, for the message.

    Raises:
        InputError: Nothing would be kept.
    """
    if size >= len(labels):
        raise InputError(
            f"{what} must leave images to train on: got {size} of {len(labels)} {among}"
        )
    if size == 0:
        return torch.arange(len(labels)), torch.arange(0)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    # Rank images within their class, then cut at equal fractions of every class.
    position = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = order[labels[order] == label]
        position[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    by_position = order[position[order].argsort(stable=True)]
    held = torch.zeros(len(labels), dtype=torch.bool)
    held[by_position[:size]] = True
    return order[~held[order]], order[held[order]]
