"""Image files are read by the range of their values, or refused in one line."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from stelab.engine.errors import InputError
from stelab.lab.data.image_files import image_paths
from stelab.lab.data.image_files import read_image as read_any

GREY: NDArray[np.uint8] = np.repeat(np.arange(28, dtype=np.uint8) * 9, 28).reshape(28, 28)
WIDE = GREY.astype(np.uint16) * 257
EIGHT = Image.fromarray(GREY)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read grey pixels, 28x28."""
    pixels = read_any(path, channels=1, size=(28, 28))
    assert (pixels.shape, pixels.dtype) == ((1, 28, 28), torch.uint8)
    return pixels[0].numpy()


def png16(pixels: NDArray[np.uint16], kind: int) -> bytes:
    """Write a PNG of 16 bits, kind 2 (RGB), 4 (grey and alpha) or 6 (RGBA)."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", 28, 28, 16, kind, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def saved(image: Image.Image, ending: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, ending, **options)
    return file.getvalue()


OPAQUE = np.full_like(WIDE, 65535)
RIGHT: dict[str, Callable[[], bytes]] = {
    "8 bits": lambda: saved(EIGHT, "PNG"),
    "16 bits, PNG": lambda: saved(Image.fromarray(WIDE), "PNG"),
    "16 bits, PGM": lambda: saved(Image.fromarray(WIDE), "PPM"),
    "16 bits of colour": lambda: png16(np.stack([WIDE, WIDE, WIDE], 2), 2),
    "16 bits and alpha": lambda: png16(np.stack([WIDE, OPAQUE], 2), 4),
    "16 bits of colour and alpha": lambda: png16(np.stack([WIDE, WIDE, WIDE, OPAQUE], 2), 6),
    "colour": lambda: saved(EIGHT.convert("RGB"), "PNG"),
    "opaque": lambda: saved(EIGHT.convert("LA"), "PNG"),
    "opaque colour": lambda: saved(EIGHT.convert("RGBA"), "WEBP", lossless=True),
    "a palette": lambda: saved(EIGHT.convert("P"), "GIF"),
    "inks": lambda: saved(EIGHT.convert("RGB").convert("CMYK"), "TIFF"),
    "a colour that would be transparent": lambda: saved(EIGHT, "PNG", transparency=1),
}


@pytest.mark.parametrize("name", RIGHT)
def test_every_kind_of_pixel_is_read_by_its_range(name: str, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(RIGHT[name]())
    assert np.array_equal(read_image(tmp_path / "image"), GREY)


@pytest.mark.parametrize("name", RIGHT)
def test_grey_becomes_rgb_by_repetition(name: str, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(RIGHT[name]())
    red, green, blue = read_any(tmp_path / "image", channels=3, size=(28, 28)).numpy()
    assert np.array_equal(red, GREY)
    assert np.array_equal(green, GREY)
    assert np.array_equal(blue, GREY)


COLOURS: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_colours_are_read_as_they_are_and_weighed_for_grey(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(COLOURS).save(path)
    rgb = read_any(path, channels=3, size=(20, 30)).numpy()
    assert np.array_equal(rgb, COLOURS.transpose(2, 0, 1))
    (grey,) = read_any(path, channels=1, size=(20, 30)).numpy()
    luminance = COLOURS @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey - luminance).max() < 1


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_stretched_to_height_and_width(channels: int, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(
        np.vstack([np.full((10, 8, 3), 200), np.full((10, 8, 3), 40)]).astype("u1")
    ).save(path)
    pixels = read_any(path, channels=channels, size=(4, 32))
    assert pixels.shape == (channels, 4, 32)
    assert (pixels[:, 0] > 190).all() and (pixels[:, 3] < 50).all()


def test_16_bits_are_rounded(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 784).astype(np.uint16).reshape(28, 28)
    Image.fromarray(values).save(tmp_path / "image.png")
    expected = np.rint(values / 257).astype(np.uint8)
    assert np.array_equal(read_image(tmp_path / "image.png"), expected)


def test_one_bit_is_black_or_white(tmp_path: Path) -> None:
    Image.fromarray(GREY > 100).save(tmp_path / "image.png")
    assert np.array_equal(read_image(tmp_path / "image.png"), 255 * (GREY > 100))


SEEN_THROUGH = EIGHT.convert("RGBA")
SEEN_THROUGH.putpixel((3, 3), (0, 0, 0, 254))
LARGE = Image.new("1", (8192, 4097))

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "int32": (lambda: saved(Image.fromarray(WIDE.astype(np.int32)), "TIFF"), "among its I pixels"),
    "float": (lambda: saved(Image.fromarray(WIDE.astype(np.float32)), "TIFF"), "its F pixels"),
    "16 bits whose white is not known": (
        lambda: saved(Image.fromarray(WIDE), "TIFF"),
        "where white is among its I;16 pixels is not known",
    ),
    "transparent": (lambda: saved(SEEN_THROUGH, "PNG"), "behind its transparent pixels"),
    "transparent grey": (lambda: saved(SEEN_THROUGH.convert("LA"), "PNG"), "transparent pixels"),
    "a transparent colour": (lambda: saved(EIGHT, "PNG", transparency=9), "transparent pixels"),
    "a transparent colour of 16 bits": (
        lambda: saved(Image.fromarray(WIDE), "PNG", transparency=0),
        "transparent pixels",
    ),
    "another colour space": (lambda: saved(Image.new("LAB", (28, 28)), "TIFF"), "LAB"),
    "large": (lambda: saved(LARGE, "PNG"), "more than 33554432 pixels"),
    "a bomb": (lambda: saved(Image.new("1", (2**14, 2**14)), "PNG"), "more than 33554432 pixels"),
    "cut off": (lambda: saved(EIGHT, "PNG")[:-60], "not a readable image"),
    "what Ghostscript would run": (lambda: saved(EIGHT, "EPS"), "it is none of BMP, GIF"),
    "text": (lambda: b"no image", "it is none of BMP, GIF"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_or_too_large_is_refused(
    name: str, channels: int, tmp_path: Path
) -> None:
    make, expected = REFUSED[name]
    (tmp_path / "image").write_bytes(make())
    with pytest.raises(InputError, match=f"image is not a readable image: .*{expected}|{expected}"):
        read_any(tmp_path / "image", channels=channels, size=(28, 28))


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "nowhere", "huge"])
def test_what_is_no_file_is_not_left_out(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "\udcff\x1b[2J.png"  # bytes that are no UTF-8, and a terminal's command
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "huge":
        path.touch()
        os.truncate(path, 2**40)
    else:
        path.symlink_to({"device": "/dev/zero", "loop": path.name, "nowhere": "absent"}[kind])
    (tmp_path / "folder").mkdir()
    (tmp_path / ".hidden").touch()
    assert image_paths(tmp_path) == [path]
    with pytest.raises(InputError, match=r"udcff\\x1b\[2J.png is not a readable image") as told:
        read_image(path)
    assert str(told.value).isprintable()


def test_names_of_any_bytes_are_read(tmp_path: Path) -> None:
    EIGHT.save(os.fsencode(tmp_path) + b"/\xff.png", "PNG")
    (path,) = image_paths(tmp_path)
    assert np.array_equal(read_image(path), GREY)
