"""Codes of a trained network: packed in a file, back to images, and in TensorBoard's projector."""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
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

from stelab.categorizer import Categorizer
from stelab.engine.errors import InputError, first_line
from stelab.engine.files import (
    filled_atomically,
    open_regular,
    require_file,
    require_folder,
    written_atomically,
)
from stelab.engine.studies import Run
from stelab.lab.data import ImageFormat
from stelab.lab.data.image_files import image_paths, read_image
from stelab.lab.training.figures import drawable
from stelab.lab.training.module import TaskModule
from stelab.lab.training.restore import image_format, load_data, restore
from stelab.quantizers import Quantizer

Codes = NDArray[Any]  # unsigned integers
_BATCH = 100


class CodeFormat(ABC):
    """How a file holds the codes of a network: an array ``(images, *shape)`` of a dtype.

    Attributes:
        shape: Of an image's entry.
        dtype: Unsigned integers, little-endian.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def pack(self, code: Tensor) -> Codes:
        """Return what a file holds for codes of a network, ``(n, *code_shape)``."""

    @abstractmethod
    def unpack(self, codes: Codes) -> Tensor:
        """Undo `pack`; raise ValueError where no code is packed like this."""


class PackedBits(CodeFormat):
    """Bits of a binary layer, eight a byte, the first one highest; the last byte ends in zeros."""

    def __init__(self, code_shape: tuple[int, ...]):
        self.code_shape = code_shape
        self.shape, self.dtype = (math.ceil(math.prod(code_shape) / 8),), np.dtype("u1")

    def __str__(self) -> str:
        return f"{self.shape[0]} bytes each"

    def pack(self, code: Tensor) -> Codes:
        """See `CodeFormat.pack`."""
        return pack(code)

    def unpack(self, codes: Codes) -> Tensor:
        """See `CodeFormat.unpack`; bits beyond the last are not looked at."""
        return unpack(codes, self.code_shape)


class Indices(CodeFormat):
    """One of a few codewords or classes at each position, by its number, in few bytes.

    Args:
        shape: Positions of an image.
        count: How many codewords or classes there are.
        number: Codes ``(n, *code_shape)`` to their numbers, int64, ``(n, *shape)``.
        code: Numbers to codes.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        count: int,
        *,
        number: Callable[[Tensor], Tensor],
        code: Callable[[Tensor], Tensor],
    ):
        self.shape, self.count, self.number, self.code = shape, count, number, code
        self.dtype = np.min_scalar_type(count - 1).newbyteorder("<")

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} numbers below {self.count} each ({self.dtype})"

    def pack(self, code: Tensor) -> Codes:
        """See `CodeFormat.pack`."""
        return self.number(code).cpu().numpy().astype(self.dtype)

    def unpack(self, codes: Codes) -> Tensor:
        """See `CodeFormat.unpack`."""
        if codes.max(initial=0) >= self.count:
            raise ValueError(f"numbers must be below {self.count}, got {codes.max()}")
        return self.code(torch.from_numpy(codes.astype(np.int64)))


def pack(bits: Tensor) -> Codes:
    """Pack bits ``(n, *code_shape)`` to bytes ``(n, ceil(bits / 8))``, the first bit highest."""
    return np.packbits(bits.flatten(1).cpu().numpy().astype(bool), axis=1)


def unpack(codes: Codes, code_shape: tuple[int, ...]) -> Tensor:
    """Undo `pack`: float32 bits ``(n, *code_shape)``."""
    bits = np.unpackbits(codes, axis=1, count=math.prod(code_shape))
    return torch.from_numpy(bits).float().reshape(-1, *code_shape)


def code_shape(module: TaskModule, form: ImageFormat) -> tuple[int, ...]:
    """Return the shape of one code; raise InputError where codes stand for no images."""
    if not module.task.encodes:
        task = type(module.task).__name__
        raise InputError(f"{task} has no codes that stand for images: take a run that encodes them")
    with torch.no_grad():
        return tuple(module.model.encode(torch.zeros(1, *form.shape)).shape[1:])


def code_format(module: TaskModule, form: ImageFormat) -> CodeFormat:
    """Return how a file holds the codes of a network, of images of a format.

    Raises:
        InputError: Codes stand for no images, or numbers of codewords take more than 63 bits.
    """
    shape, layer = code_shape(module, form), module.model.binarizer
    if isinstance(layer, Quantizer):
        if layer.codebook_size > 2**63:
            raise InputError(
                f"codes are numbers of 63 bits at most, but the codebook has {layer.codebook_size} "
                "codewords: take fewer channels"
            )
        return Indices(shape[1:], layer.codebook_size, number=layer.indices, code=layer.codes)
    if isinstance(layer, Categorizer):
        classes = shape[-1]

        def one_hot(numbers: Tensor) -> Tensor:
            return functional.one_hot(numbers, classes).float()

        return Indices(shape[:-1], classes, number=lambda code: code.argmax(-1), code=one_hot)
    return PackedBits(shape)


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
) -> tuple[Codes, CodeFormat]:
    """Write the codes of a folder of images, or of a dataset's split, to a .npy file.

    Batch by batch, so it takes little memory; `output` holds what it held until all are written.
    Without `images`, `split` is of `data`, which configures another dataset, or of the run's. The
    codes that are returned, with their format, are mapped from `output`.
    """
    target = Path(output)
    if target.suffix != ".npy":
        raise InputError(f"output must end in .npy, got '{output}'")
    require_file(target)
    if os.path.lexists(target) and not overwrite:
        raise InputError(f"{output} exists already: give another output, or overwrite=true")
    module = restore(run, checkpoint=checkpoint, trust=trust)
    form = image_format(run)
    stored = code_format(module, form)
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
    shape = (count, *stored.shape)
    header = {"descr": stored.dtype.str, "fortran_order": False, "shape": shape}
    with written_atomically(target) as file, torch.no_grad():
        np.lib.format.write_array_header_1_0(file, header)
        for batch in batches:
            file.write(stored.pack(module.model.encode(batch)).tobytes())
    return np.load(target, mmap_mode="r"), stored


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
    form = image_format(run)
    stored = code_format(module, form)
    count, batches = _open_codes(Path(codes), stored)
    digits = max(5, len(str(count - 1)))
    names = (f"{i:0{digits}}.png" for i in range(count))
    with filled_atomically(folder) as unfinished, torch.no_grad():
        for batch in batches:
            try:
                code = stored.unpack(batch)
            except ValueError as error:
                raise InputError(f"{codes} are no codes of this run: {error}") from error
            pixels = form.denormalize(module.task.image(module.model.decode(code)))
            for image, name in zip(drawable(pixels), names, strict=False):
                Image.fromarray(image).save(unfinished / name)
    return count


def _open_codes(path: Path, stored: CodeFormat) -> tuple[int, Iterator[Codes]]:
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
    wanted = f"(images, {', '.join(map(str, stored.shape))})"
    if dtype != stored.dtype or len(shape) != 1 + len(stored.shape):
        raise InputError(
            f"{path} must hold {stored.dtype} codes of shape {wanted}, but holds {dtype} of shape "
            f"{shape}"
        )
    count, *given = shape
    if tuple(given) != stored.shape or count < 1:
        raise InputError(f"{path} has shape {shape}, but this run's codes are {wanted}: {stored}")
    length = count * math.prod(stored.shape) * stored.dtype.itemsize
    if size - start != length:
        raise InputError(
            f"{path} is damaged: by its header it holds {length} bytes of codes, but "
            f"{size - start} follow"
        )
    # Mapped anew for each batch: what has been read of a mapping is memory.
    order: Literal["C", "F"] = "F" if fortran_order else "C"
    mapped = partial(np.memmap, path, stored.dtype, "r", start, shape, order)
    firsts = range(0, count, _BATCH)
    return count, (np.array(mapped()[i : i + _BATCH], order="C") for i in firsts)


@torch.no_grad()
def encode_projected(run: Run, *, trust: Sequence[str] = ()) -> dict[str, Any]:
    """Encode test images for the projector: arguments of ``add_embedding``, pixels as bytes."""
    module = restore(run, checkpoint="last", trust=trust)
    code_shape(module, image_format(run))
    data = load_data(run, trust=trust)
    images, labels = data.images("test")[:1000], data.labels("test")
    codes = torch.cat([module.model.encode(batch).flatten(1) for batch in images.split(_BATCH)])
    if not isinstance(module.model.binarizer, Quantizer):  # whose codewords are any numbers
        codes = codes.byte()
    classes = None if labels is None else labels[: len(images)].tolist()
    pixels = data.format.denormalize(images)
    height, width = pixels.shape[2:]
    longest = max(height, width)  # the projector shows squares
    pixels = functional.pad(pixels, (0, longest - width, 0, longest - height))
    return {"mat": codes, "metadata": classes, "label_img": pixels, "tag": "codes"}


def write_projected(folder: Path, codes: dict[str, Any]) -> None:
    """Write them beside a run's event files."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        writer.add_embedding(**codes | {"label_img": codes["label_img"] / 255})
