"""Arrays of images in a file of numpy's, read as data: sizes and headers first, and no pickle."""

import math
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from stelab.arguments import Count, Level, Scale, Size, Text, checked
from stelab.engine.errors import InputError, first_line
from stelab.engine.files import open_regular
from stelab.engine.terminal import visible, visible_path
from stelab.lab.data.datamodule import Batch, ImageDataModule, divide

_NAMES = ("images", "labels", "test_images", "test_labels")
_MOST_BYTES = 2**33  # of an array
_BOMB_BYTES, _BOMB_RATIO = 2**26, 200  # no larger, unless it takes a 200th of that in the file
_MOST_CLASSES = 2**20
_CHUNK = 2**24


class NPZ(ImageDataModule):
    """The images of an ``.npz`` file, as ``numpy.savez`` and ``savez_compressed`` write it.

    Its array ``images`` is uint8 and of shape ``(n, height, width)``, grey, or of four dimensions,
    of which the last is the channels if it is 1 (grey) or 3 (RGB), and else the second. ``labels``,
    integers of shape ``(n,)``, may be there, and ``test_images`` with ``test_labels``.

    Args:
        path: The file. It is part of what a run is, as it is written, without `paths`.
        test_size: Images held out for the test, stratified; None: they are ``test_images``.
        val_size: Images held out for validation, stratified.
        split_seed: Decides which.
        limit: Keep the first `limit` images of each split; None keeps all.
        batch_size: Images a batch, over all processes.
        seed: With the epoch, decides the order of the batches.
        mean: What is subtracted of pixels in [0, 1]: a number, or a list of one a channel.
        std: What they are then divided by.

    Raises:
        InputError: The file is absent, damaged, or holds something else.
    """

    @checked
    def __init__(
        self,
        *,
        path: Text,
        test_size: Count | None,
        val_size: Size,
        split_seed: Size,
        limit: Count | None,
        batch_size: Count,
        seed: Size,
        mean: Level,
        std: Scale,
    ):
        super().__init__(limit=limit, batch_size=batch_size, seed=seed, mean=mean, std=std)
        self.path = Path(path)
        self.test_size, self.val_size, self.split_seed = test_size, val_size, split_seed

    def load(self, split: str) -> Batch:
        """Read the file, and choose the images of a split."""
        arrays = self._arrays()
        options = {"seed": self.split_seed, "mean": self.mean, "std": self.std}
        if split == "test" and self.test_size is None:
            test = arrays["test_images"], arrays.get("test_labels")
            return divide(*test, test_size=None, val_size=None, **options)["train"]
        first = arrays["images"], arrays.get("labels")
        sizes = {"test_size": self.test_size, "val_size": self.val_size}
        return divide(*first, **sizes, **options)[split]

    @property
    def classes(self) -> int | None:
        """Return one more than the largest label; None without labels."""
        labels = [tensor for name, tensor in self._arrays().items() if "labels" in name]
        return int(torch.cat(labels).max()) + 1 if labels else None

    def _arrays(self) -> dict[str, Tensor]:
        try:
            status = self.path.stat()
            arrays = _read(self.path, status.st_mtime_ns, status.st_size)
        # Whatever zipfile, zlib, numpy and Python's parser raise on bytes that were made to
        # confuse them.
        except Exception as error:
            raise InputError(
                f"data.path: {visible_path(self.path)} cannot be read: {visible(first_line(error))}"
            ) from error
        if (self.test_size is None) != ("test_images" in arrays):
            has, fix = ("has", "null") if self.test_size else ("has no", "the number to hold out")
            raise InputError(
                f"data.path: {visible_path(self.path)} {has} test_images: set data.test_size={fix}"
            )
        return arrays


@lru_cache(maxsize=2)
def _read(path: Path, modified: int, size: int) -> dict[str, Tensor]:
    """Read and check all arrays once a process, again when the file was modified."""
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        there = [name for name in _NAMES if f"{name}.npy" in archive.namelist()]
        arrays = {name: _array(archive, name) for name in there}
    if "images" not in arrays:
        raise ValueError("it holds no array images")
    if "test_images" in arrays and ("labels" in arrays) != ("test_labels" in arrays):
        raise ValueError("labels and test_labels must both be there, or neither")
    tensors = {name: _images(name, arrays[name]) for name in there if "images" in name}
    for name in (name for name in there if "labels" in name):
        images = tensors.get(name.replace("labels", "images"))
        tensors[name] = _labels(name, arrays[name], 0 if images is None else len(images))
    shapes = {tuple(t.shape[1:]) for name, t in tensors.items() if "images" in name}
    if len(shapes) > 1:
        raise ValueError(f"test_images must have the shape of images, {sorted(shapes)}")
    return tensors


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Read an array; nothing is allocated that its header and its size do not agree on."""
    info = archive.getinfo(f"{name}.npy")
    if info.file_size > max(_BOMB_BYTES, _BOMB_RATIO * info.compress_size):
        raise ValueError(
            f"{name} has {info.file_size} bytes in {info.compress_size}, as zip bombs have: save "
            "it with numpy.savez, without compression"
        )
    with archive.open(info) as file:
        version = npy.read_magic(file)
        if version != (1, 0):  # another's header, which no array of numbers needs, may be gigabytes
            raise ValueError(f"{name} is of .npy version {version}, not 1.0")
        shape, fortran_order, dtype = npy.read_array_header_1_0(file)
        if dtype.kind not in "iu":
            raise ValueError(f"{name} must be integers, but is {dtype}")
        size, expected = info.file_size - file.tell(), math.prod(shape) * dtype.itemsize
        if size != expected:
            raise ValueError(f"{name} has {size} bytes, but by its header {expected}")
        if size > _MOST_BYTES:
            raise ValueError(f"{name} has {size} bytes, more than {_MOST_BYTES}")
        content = np.empty(size, np.uint8)
        for first in range(0, size, _CHUNK):  # so that it is there once, and not as bytes too
            content[first : first + _CHUNK] = np.frombuffer(file.read(_CHUNK), np.uint8)
    return content.view(dtype).reshape(shape, order="F" if fortran_order else "C")


def _images(name: str, array: NDArray[Any]) -> Tensor:
    """Return pixels ``(n, channels, height, width)``."""
    if array.dtype != np.uint8:
        raise ValueError(f"{name} must be uint8, but is {array.dtype}")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or not array.size:
        raise ValueError(
            f"{name} must be of shape (n, height, width), (n, height, width, channels) or "
            f"(n, channels, height, width), of 1 or 3 channels, but is {array.shape}"
        )
    return torch.from_numpy(np.ascontiguousarray(array))


def _labels(name: str, array: NDArray[Any], count: int) -> Tensor:
    """Return classes ``(n,)``."""
    if array.shape != (count,):
        raise ValueError(f"{name} must be one for each of {count} images, but is {array.shape}")
    if array.min() < 0 or array.max() >= _MOST_CLASSES:
        raise ValueError(
            f"{name} must be from 0 to {_MOST_CLASSES - 1}, but is from {array.min()} to "
            f"{array.max()}"
        )
    return torch.from_numpy(array.astype(np.int64))
