"""Codes of a trained network: packed in a file, back to images, and in TensorBoard's projector."""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor
from torch.nn import functional

from stelab.engine.errors import InputError, first_line
from stelab.engine.files import (
    filled_atomically,
    open_regular,
    require_file,
    require_folder,
    written_atomically,
)
from stelab.engine.studies import Run
from stelab.lab.data.image_files import image_paths, read_image
from stelab.lab.models import Autoencoder
from stelab.lab.training.figures import drawable
from stelab.lab.training.module import TaskModule
from stelab.lab.training.restore import image_format, load_data, restore

Packed = NDArray[np.uint8]
_BATCH = 100


def pack(bits: Tensor) -> Packed:
    """Pack bits ``(n, *code_shape)`` to bytes ``(n, ceil(bits / 8))``, the first bit highest."""
    return np.packbits(bits.flatten(1).cpu().numpy().astype(bool), axis=1)


def unpack(codes: Packed, code_shape: tuple[int, ...]) -> Tensor:
    """Undo `pack`: float32 bits ``(n, *code_shape)``."""
    bits = np.unpackbits(codes, axis=1, count=math.prod(code_shape))
    return torch.from_numpy(bits).float().reshape(-1, *code_shape)


def code_shape(module: TaskModule) -> tuple[int, ...]:
    """Return the shape of one code; raise InputError where codes stand for no images."""
    if not module.task.encodes:
        task = type(module.task).__name__
        raise InputError(f"{task} has no codes that stand for images: take a run that encodes them")
    assert isinstance(module.model, Autoencoder)
    return module.model.code_shape


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
    Without `images`, `split` is of `data`, which configures another dataset, or of the run's. The
    codes that are returned are mapped from `output`: uint8, shape ``(images, bytes a code)``.
    """
    target = Path(output)
    if target.suffix != ".npy":
        raise InputError(f"output must end in .npy, got '{output}'")
    require_file(target)
    if os.path.lexists(target) and not overwrite:
        raise InputError(f"{output} exists already: give another output, or overwrite=true")
    module = restore(run, checkpoint=checkpoint, trust=trust)
    form = image_format(run)
    batches: Iterable[Tensor]
    if images is not None:
        paths = image_paths(Path(images))
        parts = (paths[first : first + _BATCH] for first in range(0, len(paths), _BATCH))
        read = partial(read_image, channels=form.shape[0], size=form.shape[1:])
        stacks = (torch.stack([read(path) for path in part]) for part in parts)
        count, batches = len(paths), map(form.normalize, stacks)
    else:
        whole = load_data(run, data, split=split, trust=trust).images(split)
        count, batches = len(whole), whole.split(_BATCH)
    shape = (count, math.ceil(math.prod(code_shape(module)) / 8))
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with written_atomically(target) as file, torch.no_grad():
        np.lib.format.write_array_header_1_0(file, header)
        for batch in batches:
            file.write(pack(module.model.encode(batch)).tobytes())
    return np.load(target, mmap_mode="r")


def decode(
    run: Run, checkpoint: str, codes: str, output: str, overwrite: bool, trust: Sequence[str] = ()
) -> int:
    """Write one PNG for each code of a file that `encode` wrote, and return how many.

    Batch by batch, in little memory: ``00000.png`` and on appear in `output` when all are written.
    """
    folder = Path(output)
    require_folder(folder)
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(f"{output} holds files already: give another output, or overwrite=true")
    module = restore(run, checkpoint=checkpoint, trust=trust)
    shape = code_shape(module)
    count, batches = _open_codes(Path(codes), shape)
    form = image_format(run)
    digits = max(5, len(str(count - 1)))
    names = (f"{i:0{digits}}.png" for i in range(count))
    with filled_atomically(folder) as unfinished, torch.no_grad():
        for batch in batches:
            pixels = form.denormalize(module.model.decode(unpack(batch, shape)))
            for image, name in zip(drawable(pixels), names, strict=False):
                Image.fromarray(image).save(unfinished / name)
    return count


def _open_codes(path: Path, code_shape: tuple[int, ...]) -> tuple[int, Iterator[Packed]]:
    """Return the number of codes in a file, and batches of them; check its header and its size."""
    try:
        with open_regular(path) as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("its format is not .npy 1.0, which codes are written in")
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
            start, size = file.tell(), os.fstat(file.fileno()).st_size
    # Whatever numpy and Python's parser raise on a header that was made to confuse them.
    except Exception as error:
        raise InputError(f"{path} is not a file of codes (.npy): {first_line(error)}") from error
    width = math.ceil(math.prod(code_shape) / 8)
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
    # Mapped anew for each batch: what has been read of a mapping is memory.
    order: Literal["C", "F"] = "F" if fortran_order else "C"
    mapped = partial(np.memmap, path, np.uint8, "r", start, shape, order)
    firsts = range(0, count, _BATCH)
    return count, (np.array(mapped()[i : i + _BATCH], order="C") for i in firsts)


@torch.no_grad()
def encode_projected(run: Run, *, trust: Sequence[str] = ()) -> dict[str, Any]:
    """Encode test images for the projector: arguments of ``add_embedding``, pixels as bytes."""
    module = restore(run, checkpoint="last", trust=trust)
    code_shape(module)
    data = load_data(run, trust=trust)
    images, labels = data.images("test")[:1000], data.labels("test")
    bits = torch.cat(
        [module.model.encode(batch).flatten(1).byte() for batch in images.split(_BATCH)]
    )
    classes = None if labels is None else labels[: len(images)].tolist()
    pixels = data.format.denormalize(images)
    height, width = pixels.shape[2:]
    longest = max(height, width)  # the projector shows squares
    pixels = functional.pad(pixels, (0, longest - width, 0, longest - height))
    return {"mat": bits, "metadata": classes, "label_img": pixels, "tag": "codes"}


def write_projected(folder: Path, codes: dict[str, Any]) -> None:
    """Write them beside a run's event files."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        writer.add_embedding(**codes | {"label_img": codes["label_img"] / 255})
