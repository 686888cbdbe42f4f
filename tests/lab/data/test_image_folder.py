"""Folders of images: classes by their names, splits, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stelab.engine.errors import InputError
from stelab.lab.data import ImageFolder

OPTIONS: dict[str, Any] = {
    "size": [4, 6],
    "channels": 3,
    "test_size": 4,
    "val_size": 2,
    "split_seed": 0,
    "limit": None,
    "batch_size": 4,
    "seed": 0,
    "mean": 0.5,
    "std": 0.5,
}


def fill(folder: Path, *levels: int) -> None:
    """Write an image of one colour for each level: (level, 0, 255)."""
    folder.mkdir(parents=True, exist_ok=True)
    for level in levels:
        Image.new("RGB", (6, 4), (level, 0, 255)).save(folder / f"{level:03}.png")


def load(folder: Path, **options: Any) -> ImageFolder:
    return ImageFolder(folder=str(folder), **{**OPTIONS, **options})


def levels(data: ImageFolder, split: str) -> list[int]:
    pixels = data.format.denormalize(data.images(split)).numpy()
    assert pixels.shape[1:] == (3, 4, 6)
    assert np.array_equal(pixels, np.broadcast_to(pixels[:, :, :1, :1], pixels.shape))
    assert (pixels[:, 1] == 0).all() and (pixels[:, 2] == 255).all()
    return [int(level) for level in pixels[:, 0, 0, 0]]


def test_classes_are_the_folders_sorted(tmp_path: Path) -> None:
    fill(tmp_path / "zebra", *range(0, 6))
    fill(tmp_path / "ant", *range(100, 106))
    (tmp_path / ".hidden").mkdir()
    data = load(tmp_path)
    assert data.classes == 2
    found = []
    for split, size in (("train", 6), ("val", 2), ("test", 4)):
        labels = data.labels(split)
        assert labels is not None
        assert labels.bincount().tolist() == [size // 2, size // 2]
        assert labels.tolist() == [int(level < 100) for level in levels(data, split)]
        found += levels(data, split)
    assert sorted(found) == [*range(0, 6), *range(100, 106)]


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    fill(tmp_path, *range(12))
    data = load(tmp_path)
    assert (data.labels("train"), data.classes) == (None, None)
    sizes = [len(data.images(split)) for split in ("train", "val", "test")]
    assert sizes == [6, 2, 4]
    assert sorted(sum((levels(data, s) for s in ("train", "val", "test")), [])) == [*range(12)]


def test_ready_made_splits_are_folders(tmp_path: Path) -> None:
    for part, first in (("train", 0), ("val", 10), ("test", 20)):
        fill(tmp_path / part / "b", first, first + 1)
        fill(tmp_path / part / "a", first + 2)
    data = load(tmp_path, test_size=None, val_size=None)
    for split, first in (("train", 0), ("val", 10), ("test", 20)):
        assert levels(data, split) == [first + 2, first, first + 1]
        labels = data.labels(split)
        assert labels is not None and labels.tolist() == [0, 1, 1]
    apart = load(tmp_path, test_size=None, val_size=1)
    assert sorted(levels(apart, "train") + levels(apart, "val")) == [0, 1, 2]
    assert levels(apart, "test") == [22, 20, 21]


def test_grey_and_another_size(tmp_path: Path) -> None:
    fill(tmp_path, *range(12))
    data = load(tmp_path, channels=1, size=[8, 2], mean=0.0, std=1.0)
    assert data.format.shape == (1, 8, 2)
    assert data.images("train").unique().numel() > 1


def mixed(folder: Path) -> None:
    fill(folder / "a", 1)
    fill(folder, 2)


def other_classes(folder: Path) -> None:
    fill(folder / "train" / "a", 1)
    fill(folder / "val" / "b", 2)
    fill(folder / "test" / "a", 3)


def broken(folder: Path) -> None:
    fill(folder, *range(12))
    (folder / "a.png").write_bytes(b"no image")


WRONG: dict[str, tuple[Callable[[Path], None], dict[str, Any], str]] = {
    "absent": (lambda p: None, {}, "data.folder: .*here must be a folder of images"),
    "empty": (Path.mkdir, {}, "here holds no images"),
    "an empty class": (lambda p: (p / "a").mkdir(parents=True), {}, "here/a holds no images"),
    "mixed": (mixed, {}, "either images or a folder of them for each class, but holds both"),
    "no train": (lambda p: fill(p, 1), {"val_size": None}, "here/train must be a folder"),
    "other classes": (
        other_classes,
        {"val_size": None, "test_size": None},
        "here/val must hold a folder for each class of .*here/train, and no other",
    ),
    "a line break": (lambda p: (p / "a\nb").mkdir(parents=True), {}, r"here/a\\nb holds no images"),
    "broken": (broken, {}, "here/a.png is not a readable image"),
    "too few": (lambda p: fill(p, 1), {}, "data.test_size must leave images .* 4 of 1"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_named(kind: str, tmp_path: Path) -> None:
    make, options, expected = WRONG[kind]
    make(tmp_path / "here")
    data = load(tmp_path / "here", **options)
    with pytest.raises(InputError, match=expected):
        for split in ("train", "val", "test"):
            data.images(split)


def test_a_size_is_height_and_width(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data.size must be \[height, width\], got \[4\]"):
        load(tmp_path, size=[4])
    with pytest.raises(ValueError, match="size must be greater than or equal to 1"):
        load(tmp_path, size=[4, 0])
    with pytest.raises(ValueError, match="channels must be 1 or 3"):
        load(tmp_path, channels=2)
