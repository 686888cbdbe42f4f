"""CIFAR-10: small photographs in colour.

torchvision downloads its files, which are pickles. Each is read once, and unpickled only where what
was read has its published checksum.
"""

import pickle
from functools import lru_cache
from hashlib import md5
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor

from stelab.arguments import Count, Level, Scale, Size, Text, checked
from stelab.engine.files import read_bounded
from stelab.lab.data.datamodule import Batch, PerChannel, hold_out, normalize
from stelab.lab.data.downloaded import Downloaded

_MOST_BYTES = 2**25  # of a file; each has 31 million


class CIFAR10(Downloaded):
    """50,000 training and 10,000 test images, RGB of 32x32; the test set is never validated on.

    The files are looked for in ``root/cifar-10-batches-py``, else downloaded there.

    Args:
        root: Folder that holds, or will hold, the dataset's folder.
        val_size: Images of the training set held out for validation, stratified.
        split_seed: Decides which.
        limit: Keep the first `limit` images of each split; None keeps all.
        batch_size: Images a batch, over all processes.
        seed: With the epoch, decides the order of the batches.
        mean: What is subtracted of pixels in [0, 1]: a number, or a list of one a channel.
        std: What they are then divided by.

    Raises:
        InputError: The files are absent and cannot be downloaded, or are damaged.

    References:
        Krizhevsky (2009), "Learning Multiple Layers of Features from Tiny Images".
    """

    dataset = torchvision.datasets.CIFAR10

    @checked
    def __init__(
        self,
        *,
        root: Text,
        val_size: Size,
        split_seed: Size,
        limit: Count | None,
        batch_size: Count,
        seed: Size,
        mean: Level,
        std: Scale,
    ):
        options = {"limit": limit, "batch_size": batch_size, "seed": seed, "mean": mean, "std": std}
        super().__init__(root=root, val_size=val_size, split_seed=split_seed, **options)

    @property
    def pattern(self) -> str:
        """Return what the files are called, below `root`."""
        return f"{self.dataset.base_folder}/*_batch*"

    @property
    def files(self) -> list[Path]:
        """Return where all files belong."""
        return [self._path(name) for name, _ in self.dataset.train_list + self.dataset.test_list]

    @property
    def classes(self) -> int:
        """Return 10."""
        return 10

    def verify(self, path: Path) -> None:
        """Raise ValueError or OSError unless a file has its checksum."""
        checksums = dict(self.dataset.train_list + self.dataset.test_list)
        _verified(path, checksums[path.name], path.stat().st_mtime_ns)

    def load(self, split: str) -> Batch:
        """Read the files that a split is in, and choose its images."""
        self.prepare_data()
        entries = self.dataset.test_list if split == "test" else self.dataset.train_list
        parts = tuple((self._path(name), checksum) for name, checksum in entries)
        return _load(parts, self.val_size, self.split_seed, split, self.mean, self.std)

    def _path(self, name: str) -> Path:
        return Path(self.root, self.dataset.base_folder, name)


def _read(path: Path, checksum: str) -> bytes:
    """Return what a file holds; raise ValueError unless it has its checksum."""
    if not path.is_file():
        raise ValueError("it is no file")
    content = read_bounded(path, limit=_MOST_BYTES)
    if md5(content, usedforsecurity=False).hexdigest() != checksum:
        raise ValueError("its MD5 checksum is wrong")
    return content


@lru_cache
def _verified(path: Path, checksum: str, modified: int) -> None:
    """Hash a file once a process, again when it was modified."""
    _read(path, checksum)


@lru_cache(maxsize=3)
def _load(
    parts: tuple[tuple[Path, str], ...],
    val_size: int,
    seed: int,
    split: str,
    mean: PerChannel,
    std: PerChannel,
) -> Batch:
    """Read, choose and normalize once a process: the jobs of a sweep share the images."""
    pixels, labels = _unpickled(parts)
    if split != "test":
        kept, val = hold_out(labels, val_size, seed=seed, key="data.val_size", of="training images")
        chosen = kept if split == "train" else val
        pixels, labels = pixels[chosen], labels[chosen]
    return {"images": normalize(pixels, mean=mean, std=std), "labels": labels}


def _unpickled(parts: tuple[tuple[Path, str], ...]) -> tuple[Tensor, Tensor]:
    """Return pixels ``(n, 3, 32, 32)`` and labels ``(n,)``."""
    # Of verified bytes alone: a pickle executes what it holds.
    tables = [pickle.loads(_read(path, checksum), encoding="latin1") for path, checksum in parts]
    pixels = np.concatenate([table["data"] for table in tables]).reshape(-1, 3, 32, 32)
    return torch.from_numpy(pixels), torch.tensor([n for table in tables for n in table["labels"]])
