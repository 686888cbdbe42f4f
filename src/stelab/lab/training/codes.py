"""Codes on disk: images to packed bits and back with a trained network."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from stelab.engine.config.writable import require_file, require_folder
from stelab.engine.errors import InputError, first_line
from stelab.engine.files import filled_atomically, open_regular, written_atomically
from stelab.engine.studies import Run
from stelab.lab.data import denormalize, normalize
from stelab.lab.data.batches import Batches
from stelab.lab.data.image_files import image_paths, read_image
from stelab.lab.training.evaluate import load_data
from stelab.lab.training.restore import restore

Packed = NDArray[np.uint8]
_BATCH = 100


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
    trust: Sequence[str] = (),
) -> Packed:
    """Write the packed codes of a folder of images, or of a dataset's split, to a .npy file.

    Batch by batch, so it takes little memory; `output` holds what it held until all are written.

    Args:
        run: A finished run.
        checkpoint: ``"last"`` or ``"best"``.
        split: ``"train"``, ``"val"`` or ``"test"``, where `images` is None.
        images: A folder of images, taken by name, of which `stelab.lab.data.image_files` tells what
            they may be; each is made grey and 28x28.
        data: Configuration of another dataset than the run's.
        output: The file, of uint8, shape ``(images, bytes a code)``.
        overwrite: Whether `output` may exist.
        trust: Packages whose components are built, besides those of stelab and torch.

    Returns:
        The codes, mapped from `output`.

    Raises:
        InputError: Something cannot be read, or `output` exists or cannot be written.
    """
    target = _new_file(output, ".npy", overwrite)
    module = restore(run, checkpoint=checkpoint, trust=trust)
    batches: Iterable[Tensor]
    if images is not None:
        paths = image_paths(Path(images))
        count, batches = len(paths), _read_images(paths)
    else:
        pixels = load_data(run, data, split=split, trust=trust).images(split)
        count, batches = len(pixels), Batches(pixels, batch_size=_BATCH, seed=None)
    shape = (count, _bytes_of(module.model.code_shape))
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with written_atomically(target) as file, torch.no_grad():
        np.lib.format.write_array_header_1_0(file, header)
        for batch in batches:
            file.write(pack(module.model.encode(batch)).tobytes())
    codes: Packed = np.load(target, mmap_mode="r")
    return codes


def decode(
    run: Run,
    *,
    checkpoint: str,
    codes: str,
    output: str,
    overwrite: bool,
    trust: Sequence[str] = (),
) -> int:
    """Write one PNG a code, ``00000.png`` and on, and return how many.

    Batch by batch, so it takes little memory; the files appear in `output` when all are written.

    Args:
        run: A finished run; the one that encoded, or another of the same code.
        checkpoint: ``"last"`` or ``"best"``.
        codes: A .npy file that `encode` wrote.
        output: The folder.
        overwrite: Whether `output` may hold files.
        trust: Packages whose components are built, besides those of stelab and torch.

    Raises:
        InputError: `codes` is not of this network's code, or `output` holds files or cannot be
            written.
    """
    folder = _new_folder(output, overwrite)
    module = restore(run, checkpoint=checkpoint, trust=trust)
    shape = module.model.code_shape
    read = _read_codes(Path(codes), shape)
    count, _ = read.shape
    digits = max(5, len(str(count - 1)))
    names = (f"{i:0{digits}}.png" for i in range(count))
    with filled_atomically(folder) as unfinished, torch.no_grad():
        for batch in read:
            pixels = denormalize(module.model.decode(unpack(batch, shape)))
            for image, name in zip(pixels.numpy(), names, strict=False):
                Image.fromarray(image).save(unfinished / name)
    return count


def _read_images(paths: Sequence[Path]) -> Iterator[Tensor]:
    for first in range(0, len(paths), _BATCH):
        batch = paths[first : first + _BATCH]
        yield normalize(torch.stack([read_image(path) for path in batch]))


@dataclass(frozen=True)
class _Codes:
    """Codes in a .npy file, read in batches ``(n, bytes)``."""

    path: Path
    start: int
    shape: tuple[int, int]
    order: Literal["C", "F"]

    def __iter__(self) -> Iterator[Packed]:
        for first in range(0, self.shape[0], _BATCH):
            # Mapped anew each time: what has been read of a mapping is memory.
            codes = np.memmap(self.path, np.uint8, "r", self.start, self.shape, self.order)
            yield np.array(codes[first : first + _BATCH], order="C")


def _read_codes(path: Path, code_shape: tuple[int, ...]) -> _Codes:
    """Compare a file's header with the network's code and the file's size."""
    try:
        with open_regular(path) as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("its format is not .npy 1.0, which codes are written in")
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
            start, size = file.tell(), os.fstat(file.fileno()).st_size
    # Whatever numpy and Python's parser raise on a header that was made to confuse them.
    except Exception as error:
        raise InputError(f"{path} is not a file of codes (.npy): {first_line(error)}") from error
    width = _bytes_of(code_shape)
    if dtype != np.uint8 or len(shape) != 2:
        raise InputError(
            f"{path} must hold uint8 codes of shape (images, {width}), but holds {dtype} of shape "
            f"{shape}"
        )
    count, given = shape
    if given != width or count < 1:
        raise InputError(
            f"{path} has shape {shape}, but this run's codes are (images, {width}): "
            f"{math.prod(code_shape)} bits each"
        )
    if size - start != count * width:
        raise InputError(
            f"{path} is damaged: by its header it holds {count * width} bytes of codes, but "
            f"{size - start} follow"
        )
    return _Codes(path, start, (count, width), "F" if fortran_order else "C")


def _bytes_of(code_shape: tuple[int, ...]) -> int:
    return math.ceil(math.prod(code_shape) / 8)


def _new_file(output: str, ending: str, overwrite: bool) -> Path:
    path = Path(output)
    if path.suffix != ending:
        raise InputError(f"output must end in {ending}, got '{output}'")
    require_file(path)
    if os.path.lexists(path) and not overwrite:
        raise InputError(f"{output} exists already: give another output, or overwrite=true")
    return path


def _new_folder(output: str, overwrite: bool) -> Path:
    path = Path(output)
    require_folder(path)
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise InputError(f"{output} holds files already: give another output, or overwrite=true")
    return path
