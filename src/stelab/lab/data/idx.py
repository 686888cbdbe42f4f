"""MNIST and its drop-in replacements, in the IDX files that torchvision downloads."""

from __future__ import annotations

import hashlib
import math
import os
import struct
from functools import cache, lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torchvision
from torch import Tensor

from stelab.arguments import Count, Size, Text, checked
from stelab.engine.errors import InputError, first_line
from stelab.engine.files import open_regular
from stelab.engine.terminal import visible
from stelab.lab.data.datamodule import ImageDataModule, hold_out, normalize

_FILES = {  # name: shape
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}
_UBYTE = 8
_CLASSES = 10


class _IDX(ImageDataModule):
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

    Raises:
        InputError: The files are absent and cannot be downloaded, or are damaged.
    """

    dataset: ClassVar[type[torchvision.datasets.MNIST]]
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
    ):
        super().__init__(limit=limit, batch_size=batch_size, seed=seed)
        self.root = root
        self.val_size = val_size
        self.split_seed = split_seed

    def prepare_data(self) -> None:
        """Download what is missing, verify what is there."""
        paths = [_raw(self.dataset.__name__, self.root) / name for name in _FILES]
        for path in paths:
            if os.path.lexists(path) and not path.is_file():
                raise InputError(self._damaged(path, "it is no file"))
        if not all(path.is_file() for path in paths):
            self._download()
        for path in paths:
            try:
                _verify(path, self.md5.get(path.name))
            except (OSError, ValueError) as error:
                raise InputError(self._damaged(path, first_line(error))) from error

    def load(self, split: str) -> Tensor:
        """Read the file that a split is in, and choose its images."""
        self.prepare_data()
        return _images(self.dataset.__name__, self.root, self.val_size, self.split_seed, split)

    def test_labels(self) -> Tensor:
        """Return the classes of the test images."""
        self.prepare_data()
        labels = _read(_raw(self.dataset.__name__, self.root) / "t10k-labels-idx1-ubyte")
        return labels.long()[: self.limit]

    def _download(self) -> None:
        name = self.dataset.__name__
        if not self.may_download:
            raise InputError(
                f"{name} is not whole in data.root={visible(self.root)}, where the run says that "
                "it is, and is not downloaded to there: give data=... (with data.root=FOLDER)"
            )
        try:
            self.dataset(self.root, download=True)
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            raise InputError(
                f"{name} is not whole in data.root={self.root} and cannot be downloaded there "
                f"({first_line(error)}). Give data.root=FOLDER with FOLDER/{name}/raw/*-ubyte, "
                "or use data=mnist5k, which needs no download."
            ) from error

    def _damaged(self, path: Path, how: str) -> str:
        return (
            f"{path} is damaged: {how}. Delete it to download it again, give another data.root, "
            "or use data=mnist5k, which needs no download."
        )


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
    header = _header(path.name)
    expected = len(header) + math.prod(_FILES[path.name])
    with open_regular(path) as file:
        status, start = os.fstat(file.fileno()), file.read(len(header))
    if status.st_size != expected:
        raise ValueError(f"{status.st_size} bytes instead of {expected}")
    if start != header:
        raise ValueError(f"its header is {start.hex(' ', 4)} instead of {header.hex(' ', 4)}")
    if md5 is not None and _md5(path, status.st_mtime_ns) != md5:
        raise ValueError("its MD5 checksum is wrong")
    if "labels" in path.name and (largest := int(_read(path).max())) >= _CLASSES:
        raise ValueError(f"it holds the label {largest}, more than {_CLASSES - 1}")


@cache
def _md5(path: Path, modified: int) -> str:
    """Hash a file once a process, again when it was modified."""
    digest = hashlib.md5()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@lru_cache(maxsize=6)  # of two datasets
def _images(name: str, root: str, val_size: int, split_seed: int, split: str) -> Tensor:
    """Read, choose and normalize once a process: the jobs of a sweep share the images."""
    raw = _raw(name, root)
    if split == "test":
        return normalize(_read(raw / "t10k-images-idx3-ubyte"))
    labels = _read(raw / "train-labels-idx1-ubyte").long()
    kept, val = hold_out(
        labels, val_size, seed=split_seed, what="data.val_size", among="training images"
    )
    pixels = _read(raw / "train-images-idx3-ubyte")
    return normalize(pixels[kept if split == "train" else val])


def _raw(name: str, root: str) -> Path:
    return Path(root) / name / "raw"


def _header(name: str) -> bytes:
    """Return how a file must begin: type and number of dimensions, then each of them."""
    shape = _FILES[name]
    return struct.pack(f">HBB{len(shape)}I", 0, _UBYTE, len(shape), *shape)


def _read(path: Path) -> Tensor:
    """Return the bytes of a verified file, in its shape."""
    values = np.fromfile(path, np.uint8, offset=len(_header(path.name)))
    return torch.from_numpy(values).reshape(_FILES[path.name])
