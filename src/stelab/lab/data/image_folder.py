"""Any folder of images, with a folder a class or without classes."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from stelab.arguments import Count, Level, Scale, Size, Sizes, Text, checked
from stelab.engine.errors import InputError
from stelab.engine.terminal import visible_path
from stelab.lab.data.datamodule import Batch, ImageDataModule, divide
from stelab.lab.data.image_files import image_paths, read_image


class ImageFolder(ImageDataModule):
    """Image files of any kind, made one size, grey or RGB; see `stelab.lab.data.image_files`.

    ``folder/<class>/<file>`` gives labels, by the classes' names in alphabetical order;
    ``folder/<file>`` gives images without. Where `val_size` or `test_size` is None, that split is
    in ``folder/val`` or ``folder/test``, and what there is to train on in ``folder/train``.

    Args:
        folder: The folder. It is part of what a run is, as it is written, without `paths`.
        size: ``[height, width]``, which every image is stretched to.
        channels: 1 for grey, 3 for RGB.
        test_size: Images held out for the test, stratified; None: they have a folder.
        val_size: Images held out for validation, stratified; None: they have a folder.
        split_seed: Decides which.
        limit: Keep the first `limit` images of each split; None keeps all.
        batch_size: Images a batch, over all processes.
        seed: With the epoch, decides the order of the batches.
        mean: What is subtracted of pixels in [0, 1]: a number, or a list of one a channel.
        std: What they are then divided by.

    Raises:
        InputError: A folder is absent or empty, mixes files with folders, or has other classes than
            the training images; an image cannot be read; or `size` is not two numbers.
    """

    @checked
    def __init__(
        self,
        *,
        folder: Text,
        size: Sizes,
        channels: Literal[1, 3],
        test_size: Count | None,
        val_size: Size | None,
        split_seed: Size,
        limit: Count | None,
        batch_size: Count,
        seed: Size,
        mean: Level,
        std: Scale,
    ):
        super().__init__(limit=limit, batch_size=batch_size, seed=seed, mean=mean, std=std)
        if len(size) != 2:
            raise InputError(f"data.size must be [height, width], got {size}")
        self.folder = Path(folder)
        self.size = (size[0], size[1])
        self.channels = channels
        self.test_size, self.val_size, self.split_seed = test_size, val_size, split_seed

    def load(self, split: str) -> Batch:
        """Read the images of a split."""
        if {"test": self.test_size, "val": self.val_size}.get(split, 0) is None:
            return self._divided(split, test_size=None, val_size=None)["train"]
        return self._divided(self._first, test_size=self.test_size, val_size=self.val_size)[split]

    @property
    def classes(self) -> int | None:
        """Return the number of classes; None for a folder without."""
        return len(_classes(self.folder / self._first)) or None

    @property
    def _first(self) -> str:
        """Return where training images are."""
        return "train" if self.test_size is None or self.val_size is None else ""

    def _divided(self, part: str, **held_out: int | None) -> dict[str, Batch]:
        """Return the splits of the images in a part of the folder."""
        classes, folder = _classes(self.folder / self._first), self.folder / part
        if _classes(folder) != classes:
            raise InputError(
                f"data.folder: {visible_path(folder)} must hold a folder for each class of "
                f"{visible_path(self.folder / self._first)}, and no other, but does not"
            )
        pixels, labels = _read(folder, classes, self.channels, self.size)
        options = {"seed": self.split_seed, "mean": self.mean, "std": self.std}
        return divide(pixels, labels, **held_out, **options)


def _classes(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in a folder, sorted, without hidden ones."""
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except (OSError, ValueError) as error:
        where = visible_path(folder)
        raise InputError(f"data.folder: {where} must be a folder of images") from error
    names = sorted(path.name for path in paths if path.is_dir())
    if names and len(names) < len(paths):
        raise InputError(
            f"data.folder: {visible_path(folder)} must hold either images or a folder of them for "
            "each class, but holds both"
        )
    return tuple(names)


@lru_cache(maxsize=3)
def _read(
    folder: Path, classes: tuple[str, ...], channels: int, size: tuple[int, int]
) -> tuple[Tensor, Tensor | None]:
    """Read once a process: the jobs of a sweep share the images."""
    paths = [image_paths(folder / name, key="data.folder") for name in classes or ("",)]
    pixels = [read_image(p, channels=channels, size=size) for part in paths for p in part]
    counts = torch.tensor([len(part) for part in paths])
    labels = torch.arange(len(paths)).repeat_interleave(counts) if classes else None
    return torch.stack(pixels), labels
