"""Checkpoints on disk: whole, or not there; and read as data, whoever wrote them."""

import copy
import hashlib
import io
import mmap
import pickletools
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any
from zipfile import ZIP_STORED, ZipFile

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from torch import Tensor

from stelab.engine.errors import InputError, RunError, first_line
from stelab.engine.files import open_regular, write_atomically

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"

# torch writes a zip archive; it may end in a comment, whose length stands in its last two bytes.
_PREFIX = b"sha256:"
_COMMENT = len(_PREFIX) + 64

# How torch's archives end: where and how large the list of their records is.
_END = struct.Struct("<4s36xQQ4s4xQ4x22x")
_END64, _LOCATOR64 = b"PK\x06\x06", b"PK\x06\x07"

_LARGEST = 2**34
_MOST_LISTED = 2**22
_MOST_PICKLED = 2**25
_MOST_INSTRUCTIONS = 2**21

# What a pickle of tensors and plain values names. Torch admits more, some of which makes gigabytes
# out of a few bytes, such as bytearray(10**10).
_NAMES = {
    *("collections OrderedDict", "collections Counter", "__builtin__ set", "__builtin__ complex"),
    *("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"),
}


class SealedCheckpointIO(TorchCheckpointIO):
    """Writes torch's own format, atomically, with a checksum as the comment of the archive.

    ``torch.load(path, weights_only=True)`` reads it, and `read_checkpoint` what may be damaged.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """See `write_sealed`."""
        write_sealed(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint into memory, on the CPU: what continues replaces the file."""
        return copy.deepcopy(_load(Path(path)))


def write_sealed(checkpoint: dict[str, Any], path: Path) -> None:
    """Serialize a checkpoint and write it, see `serialize` and `write_serialized`."""
    write_serialized(serialize(checkpoint), path)


def serialize(checkpoint: dict[str, Any]) -> io.BytesIO:
    """Turn a checkpoint into bytes; refuse what cannot be read back."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    try:
        _check_records(buffer)
    except ValueError as error:
        raise RunError(
            f"a checkpoint holds tensors and plain values alone, but {error}: change the "
            "state_dict of the callback that adds it"
        ) from error
    return buffer


def write_serialized(buffer: io.BytesIO, path: Path) -> None:
    """Seal a checkpoint, and write it atomically."""
    buffer.seek(-2, io.SEEK_END)
    buffer.write(_COMMENT.to_bytes(2, "little"))
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    buffer.write(_PREFIX + digest.encode())
    write_atomically(path, buffer.getbuffer())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without trusting its sizes, names or types.

    A stranger can compute the checksum too: it tells damage, not who wrote it. No code of the file
    runs. Tensors are mapped from it: one that is larger than expected costs no memory before its
    shape is compared. The network's are under ``"state_dict"``, by name.
    """
    try:
        content: dict[str, Any] = _load(path)
        state = dict(content["state_dict"])
        if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
            raise ValueError("its state_dict must hold tensors by name")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    # Whatever torch, zipfile and pickle raise on bytes that were made to confuse them.
    except Exception as error:
        raise InputError(f"{path} is damaged: {first_line(error)}") from error
    return content


def mismatch(state: Mapping[str, Tensor], network: Mapping[str, Tensor]) -> str | None:
    """Name the first tensor that a network cannot take from `state`, in any precision."""
    if names := sorted(state.keys() ^ network.keys()):
        (name, *_) = names
        return f"it holds no {name}" if name in network else f"the network has no {name}"
    for name, expected in network.items():
        saved = state[name]
        if saved.shape != expected.shape:
            return f"{name} has shape {tuple(saved.shape)} instead of {tuple(expected.shape)}"
        are_floating_point = saved.is_floating_point() and expected.is_floating_point()
        if saved.dtype != expected.dtype and not are_floating_point:
            return f"{name} is of {saved.dtype} instead of {expected.dtype}"
        if saved.layout != expected.layout or saved.is_meta:
            return f"{name} is no plain tensor"
    return None


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """Name the first tensor that holds a NaN or an infinity; None if all are finite."""
    return next((name for name, value in state.items() if not value.isfinite().all()), None)


def _load(path: Path) -> Any:
    with open_regular(path) as file:
        _check_seal(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except UnpicklingError as error:  # whose message is on how to run code that torch refuses
            raise ValueError("it holds what is neither a tensor nor a plain value") from error


def _check_seal(file: IO[bytes]) -> None:
    """Check size, seal, the list of records and these themselves, in that order."""
    size = file.seek(0, io.SEEK_END) - _COMMENT
    if size < _END.size:
        raise ValueError("it is too short")
    if size > _LARGEST:
        raise ValueError(f"it has {size} bytes, more than {_LARGEST}")
    file.seek(-_COMMENT - _END.size, io.SEEK_END)
    end, comment = file.read(_END.size), file.read(_COMMENT)
    if not comment.startswith(_PREFIX):
        raise ValueError(
            "it does not end in a checksum: it was cut off, or stelab did not write it"
        )
    # One list, where all readers look for it: two could be shown to two readers.
    mark, listed, offset, locator, located = _END.unpack(end)
    place = size - _END.size
    if (mark, locator, located, offset + listed) != (_END64, _LOCATOR64, place, place):
        raise ValueError("its list of records is not where it belongs")
    if listed > _MOST_LISTED:
        raise ValueError("its list of records is too long")
    with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
        digest = hashlib.sha256(content).hexdigest()
    if comment != _PREFIX + digest.encode():
        raise ValueError("its checksum is wrong")
    _check_records(file)


def _check_records(file: IO[bytes]) -> None:
    """Check that an archive holds what torch writes, and inspect what its pickle would do."""
    with ZipFile(file) as archive:
        entries = archive.infolist()
        folder, _, _ = entries[0].filename.partition("/")
        names = [entry.filename.removeprefix(f"{folder}/") for entry in entries]
        if len({name.lower() for name in names}) < len(names) or "constants.pkl" in names:
            raise ValueError("its records are not those of a checkpoint")
        if any(entry.compress_type != ZIP_STORED for entry in entries):
            raise ValueError("its records are compressed, which torch's never are")
        named = zip(names, entries, strict=True)
        small = {name: entry for name, entry in named if not name.startswith("data/")}
        if sum(entry.file_size for entry in small.values()) > _MOST_PICKLED:
            raise ValueError(f"it holds more than {_MOST_PICKLED} bytes beside its tensors")
        records = {name: archive.read(entry) for name, entry in small.items()}
    for number, (instruction, value, _) in enumerate(pickletools.genops(records["data.pkl"])):
        if number > _MOST_INSTRUCTIONS:
            raise ValueError(f"it holds more than {_MOST_INSTRUCTIONS} values")
        if instruction.name == "GLOBAL" and value not in _NAMES:
            module, _, name = str(value).partition(" ")
            # Kinds of numbers, and what holds them: torch.float32, torch.FloatStorage, torch.Size.
            is_kind = isinstance(getattr(torch, name, None), type | torch.dtype)
            if module != "torch" or not is_kind:
                raise ValueError(f"it names {module}.{name}, which is no plain value")
