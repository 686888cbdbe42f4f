"""Arrays of numpy's: which axis is which, and one reason for each file that is not right."""

from __future__ import annotations

import io
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stelab.engine.errors import InputError
from stelab.lab.data import NPZ

OPTIONS: dict[str, Any] = {
    "test_size": 4,
    "val_size": 2,
    "split_seed": 0,
    "limit": None,
    "batch_size": 4,
    "seed": 0,
    "mean": 0.0,
    "std": 1.0,
}
RNG = np.random.default_rng(0)
GREY: NDArray[np.uint8] = RNG.integers(0, 256, (12, 5, 7), dtype=np.uint8)
RGB: NDArray[np.uint8] = RNG.integers(0, 256, (12, 5, 7, 3), dtype=np.uint8)
LABELS = np.arange(12) % 2


def load(path: Path, **options: Any) -> NPZ:
    return NPZ(path=str(path), **{**OPTIONS, **options})


def pixels(data: NPZ, split: str) -> NDArray[np.uint8]:
    return data.format.denormalize(data.images(split)).numpy()


LAYOUTS: dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]] = {
    "grey": (GREY, GREY[:, None]),
    "grey, channels first": (GREY[:, None], GREY[:, None]),
    "grey, channels last": (GREY[..., None], GREY[:, None]),
    "RGB, channels last": (RGB, RGB.transpose(0, 3, 1, 2)),
    "RGB, channels first": (RGB.transpose(0, 3, 1, 2), RGB.transpose(0, 3, 1, 2)),
    "in Fortran's order": (np.asfortranarray(RGB), RGB.transpose(0, 3, 1, 2)),
    "of three rows": (GREY[:, :3, :, None], GREY[:, None, :3]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_layout_is_read(layout: str, save: Callable[..., None], tmp_path: Path) -> None:
    array, expected = LAYOUTS[layout]
    save(tmp_path / "a.npz", images=array, test_images=array[:3])
    data = load(tmp_path / "a.npz", test_size=None, val_size=0)
    assert np.array_equal(pixels(data, "train"), expected)
    assert np.array_equal(pixels(data, "test"), expected[:3])
    assert data.format.shape == expected.shape[1:]
    assert not data.has("val")
    assert (data.labels("train"), data.classes) == (None, None)


def test_splits_are_stratified_and_have_their_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=GREY, labels=LABELS.astype(np.uint8))
    data = load(tmp_path / "a.npz")
    found: dict[bytes, int] = {}
    for split, size in (("train", 6), ("val", 2), ("test", 4)):
        labels = data.labels(split)
        assert labels is not None and labels.dtype == torch.int64
        assert labels.bincount().tolist() == [size // 2, size // 2]
        found |= dict(zip(map(bytes, pixels(data, split)), labels.tolist(), strict=True))
    assert found == dict(zip(map(bytes, GREY), LABELS.tolist(), strict=True))
    assert data.classes == 2


def test_given_test_images_are_the_test(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz",
        images=GREY[:8],
        labels=LABELS[:8],
        test_images=GREY[8:],
        test_labels=LABELS[8:] + 1,
    )
    data = load(tmp_path / "a.npz", test_size=None)
    assert np.array_equal(pixels(data, "test")[:, 0], GREY[8:])
    labels = data.labels("test")
    assert labels is not None and labels.tolist() == [1, 2, 1, 2]
    assert [len(data.images(split)) for split in ("train", "val")] == [6, 2]
    assert data.classes == 3


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=GREY)
    before = pixels(load(tmp_path / "a.npz"), "train")
    np.savez(tmp_path / "a.npz", images=255 - GREY[:, :4])
    after = pixels(load(tmp_path / "a.npz"), "train")
    assert np.array_equal(after, 255 - before[:, :, :4])


def npy(array: NDArray[Any], **changes: Any) -> bytes:
    """Return the bytes of a .npy whose header may lie."""
    file = io.BytesIO()
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape, **changes}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + array.tobytes()


class Opens:
    """Would run code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("canary", "w"))


def objects() -> bytes:
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + pickle.dumps(Opens())


RIGHT = {"images": npy(GREY), "labels": npy(LABELS)}
WRONG: dict[str, tuple[dict[str, bytes], str]] = {
    "nothing": ({"pictures": npy(GREY)}, "it holds no array images"),
    "floats": ({"images": npy(GREY / 255)}, "images must be integers, but is float64"),
    "wide": ({"images": npy(GREY.astype(np.int64))}, "images must be uint8, but is int64"),
    "flat": ({"images": npy(GREY.reshape(12, 35))}, r"must be of shape \(n, height.*\(12, 35\)"),
    "channels": ({"images": npy(np.zeros((2, 4, 5, 2), "u1"))}, r"of 1 or 3 channels.*\(2, 4, 5"),
    "none": ({"images": npy(GREY[:0])}, r"is \(0, 1, 5, 7\)"),
    "a larger shape": (
        {"images": npy(GREY, shape=(2**40, 5, 7))},
        "images has 420 bytes, but by its header 38482906972160",
    ),
    "a smaller shape": ({"images": npy(GREY, shape=(2, 5, 7))}, "420 bytes, but by its header 70"),
    "a pickle": ({"images": objects()}, "images must be integers, but is object"),
    "no header": ({"images": b"\x93NUMPY\1\0\4\0{1:}"}, "cannot be read"),
    "version": ({"images": b"\x93NUMPY\3\0" + bytes(9)}, r"\.npy version \(3, 0\)"),
    "a header of gigabytes": (
        {"images": b"\x93NUMPY\2\0\xff\xff\xff\xff" + bytes(99)},
        r"\.npy version \(2, 0\)",
    ),
    "too few labels": ({**RIGHT, "labels": npy(LABELS[:5])}, "one for each of 12 images.*\\(5,\\)"),
    "negative labels": ({**RIGHT, "labels": npy(LABELS - 1)}, "from 0 to 1048575.*from -1 to 0"),
    "huge labels": ({**RIGHT, "labels": npy(LABELS * 2**40)}, "from 0 to .* 1099511627776"),
    "labels of nothing": (
        {**RIGHT, "test_images": npy(GREY)},
        "labels and test_labels must both be there",
    ),
    "another size": (
        {"images": npy(GREY), "test_images": npy(GREY[:, :4])},
        "test_images must have the shape of images",
    ),
}


def test_a_bomb_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    path, zeros = tmp_path / "a.npz", np.zeros((86_000, 28, 28), np.uint8)  # 67 MB in 65 kB
    np.savez_compressed(path, images=zeros)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="images has 67424128 bytes in .*, as zip bombs have"):
            load(path).images("train")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    np.savez(path, images=zeros[:, :4, :4])  # whoever means it
    assert len(load(path).images("train")) == len(zeros) - 6


def write(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    members, expected = WRONG[kind]
    with pytest.raises(InputError, match=f"data.path: .*a.npz .*{expected}") as told:
        load(write(tmp_path / "a.npz", members)).images("train")
    assert str(told.value).isprintable()
    assert not (tmp_path / "canary").exists()


def test_an_array_that_is_too_large_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stelab.lab.data.npz._MOST_BYTES", 400)  # as for 8 GiB
    with pytest.raises(InputError, match="images has 420 bytes, more than 400"):
        load(write(tmp_path / "a.npz", RIGHT)).images("train")


@pytest.mark.parametrize("kind", ["absent", "folder", "text", "cut off", "flipped"])
def test_what_is_no_whole_archive_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    whole = write(tmp_path / "whole.npz", RIGHT).read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind != "absent":
        flipped = whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
        path.write_bytes({"text": b"no", "cut off": whole[:-90], "flipped": flipped}[kind])
    with pytest.raises(InputError, match=r"data\.path: .*a\.npz cannot be read: "):
        load(path).images("train")


def test_the_test_split_is_said_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=GREY)
    np.savez(tmp_path / "b.npz", images=GREY, test_images=GREY)
    with pytest.raises(InputError, match="has no test_images: set data.test_size=the number"):
        load(tmp_path / "a.npz", test_size=None).images("train")
    with pytest.raises(InputError, match="has test_images: set data.test_size=null"):
        load(tmp_path / "b.npz").images("train")
