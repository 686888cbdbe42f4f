"""Codes on disk: images to packed bits and back with a trained network."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from stelab.data import denormalize, normalize
from stelab.data.batches import Batches
from stelab.errors import InputError
from stelab.studies import Run
from stelab.studies.files import write_atomically
from stelab.training.evaluate import load_data
from stelab.training.restore import restore

Packed = NDArray[np.uint8]
_BATCH = 500


def pack(bits: Tensor) -> Packed:
    """Pack bits ``(n, *code_shape)`` to bytes ``(n, ceil(bits / 8))``, the first bit highest."""
    return np.packbits(bits.flatten(1).cpu().numpy().astype(bool), axis=1)


def unpack(codes: Packed, code_shape: tuple[int, ...]) -> Tensor:
    """Undo `pack`: float32 bits ``(n, *code_shape)``."""
    bits = np.unpackbits(codes, axis=1, count=math.prod(code_shape))
    return torch.from_numpy(bits).float().reshape(-1, *code_shape)


def encode(
    run: Run,
    *,
    checkpoint: str,
    split: str,
    images: str | None,
    data: DictConfig | None,
    output: str,
    overwrite: bool,
) -> Packed:
    """Write the packed codes of a folder of images, or of a dataset's split, to a .npy file.

    Args:
        run: A finished run.
        checkpoint: ``"last"`` or ``"best"``.
        split: ``"train"``, ``"val"`` or ``"test"``, where `images` is None.
        images: A folder of images, taken by name; each is made grey and 28x28.
        data: Configuration of another dataset than the run's.
        output: The file, of uint8, shape ``(images, bytes a code)``.
        overwrite: Whether `output` may exist.

    Raises:
        InputError: Something cannot be read, or `output` exists.
    """
    target = _writable(output, ".npy", overwrite)
    module = restore(run, checkpoint=checkpoint)
    if images is not None:
        pixels = read_images(Path(images))
    else:
        pixels = load_data(run.config, data).images(split)
    with torch.no_grad():
        batches = Batches(pixels, batch_size=_BATCH, seed=None)
        codes: Packed = np.concatenate([pack(module.model.encode(batch)) for batch in batches])
    file = io.BytesIO()
    np.save(file, codes)
    write_atomically(target, file.getvalue())
    return codes


def decode(run: Run, *, checkpoint: str, codes: str, output: str, overwrite: bool) -> int:
    """Write one PNG a code, ``00000.png`` and on, and return how many.

    Args:
        run: A finished run; the one that encoded, or another of the same code.
        checkpoint: ``"last"`` or ``"best"``.
        codes: A .npy file that `encode` wrote.
        output: The folder.
        overwrite: Whether `output` may hold files.

    Raises:
        InputError: `codes` is not of this network's code, or `output` holds files.
    """
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output must be a folder, but {output} is a file")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(f"{output} holds files already: give another output, or overwrite=true")
    module = restore(run, checkpoint=checkpoint)
    bits = unpack(_read_codes(codes, module.model.code_shape), module.model.code_shape)
    folder.mkdir(parents=True, exist_ok=True)
    digits = max(5, len(str(len(bits) - 1)))
    with torch.no_grad():
        batches = Batches(bits, batch_size=_BATCH, seed=None)
        pixels = torch.cat([denormalize(module.model.decode(batch)) for batch in batches])
    for i, image in enumerate(pixels.numpy()):
        Image.fromarray(image).save(folder / f"{i:0{digits}}.png")
    return len(pixels)


def read_images(folder: Path) -> Tensor:
    """Read all images of a folder, by name: grey, 28x28, normalized, ``(n, 1, 28, 28)``.

    Raises:
        InputError: It is not a folder, or holds no image, or a file that is none.
    """
    if not folder.is_dir():
        raise InputError(f"images must be a folder, got '{folder}'")
    paths = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    if not paths:
        raise InputError(f"{folder} holds no images")
    return normalize(torch.stack([_read_image(path) for path in paths]))


def _read_image(path: Path) -> Tensor:
    try:
        with Image.open(path) as image:
            grey = image.convert("L")
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path} is not a readable image: {error}") from error
    if grey.size != (28, 28):
        grey = grey.resize((28, 28), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(grey))


def _read_codes(path: str, code_shape: tuple[int, ...]) -> Packed:
    size = math.ceil(math.prod(code_shape) / 8)
    try:
        codes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a file of codes (.npy): {error}") from error
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8 or codes.ndim != 2:
        raise InputError(f"{path} must hold uint8 codes of shape (images, {size})")
    if codes.shape[1] != size or not len(codes):
        raise InputError(
            f"{path} has shape {codes.shape}, but this run's codes are (images, {size}): "
            f"{math.prod(code_shape)} bits each"
        )
    return codes


def _writable(output: str, ending: str, overwrite: bool) -> Path:
    path = Path(output)
    if path.suffix != ending:
        raise InputError(f"output must end in {ending}, got '{output}'")
    if path.exists() and not overwrite:
        raise InputError(f"{output} exists already: give another output, or overwrite=true")
    return path
