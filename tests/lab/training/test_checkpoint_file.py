"""Checkpoints from strangers, sealed by them as stelab would: data, or one line."""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import pytest
import torch

from stelab.engine.errors import InputError, RunError
from stelab.engine.studies import Run
from stelab.lab.training.checkpoint_file import (
    SealedCheckpointIO,
    mismatch,
    read_checkpoint,
)
from stelab.lab.training.restore import restore


def sealed(archive: bytes, *, before: bytes = b"") -> bytes:
    """End a zip archive as torch does, with the checksum that anyone can compute."""
    end = archive.rindex(b"PK\x05\x06")
    entries, listed, offset = struct.unpack("<8xHxxLL", archive[end : end + 20])
    place = offset + listed
    after = len(before) + place
    zip64 = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, *2 * [entries], listed, offset)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, after, 1)
    eocd = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, entries, entries, listed, offset, 71)
    body = before + archive[:place] + zip64 + locator + eocd
    return body + b"sha256:" + hashlib.sha256(body).hexdigest().encode()


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def rezipped(content: Any, change: Callable[[bytes], bytes], how: int = ZIP_STORED) -> bytes:
    """Save `content`, with its pickle changed."""
    made = io.BytesIO()
    with ZipFile(io.BytesIO(saved(content))) as old, ZipFile(made, "w", how) as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if "data.pkl" in name else old.read(name))
    return sealed(made.getvalue())


class Reduced:
    def __init__(self, function: Any, *arguments: Any):
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def ten_claimed_to_be_many(pickle: bytes) -> bytes:
    lying = pickle.replace(b"K\x0a", b"J" + (10**9).to_bytes(4, "little"))
    assert lying != pickle
    return lying


def plain(pickle: bytes) -> bytes:
    return pickle


def extra(name: str) -> bytes:
    """Add a record."""
    made = io.BytesIO(saved({"state_dict": {}}))
    with ZipFile(made, "a") as archive:
        archive.writestr(name, b"")
    return sealed(made.getvalue())


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "too short"),
    "text": (lambda: b"no checkpoint" * 100, "does not end in a checksum"),
    "unsealed": (lambda: saved({"state_dict": {}}), "does not end in a checksum"),
    "a changed byte": (lambda: b"Q" + sealed(saved({"state_dict": {}}))[1:], "checksum is wrong"),
    "no archive": (
        lambda: b"0" * 500 + b"sha256:" + hashlib.sha256(b"0" * 500).hexdigest().encode(),
        "list of records is not where it belongs",
    ),
    "code": (
        lambda: sealed(saved({"state_dict": Reduced(os.mkdir, "canary")})),
        "names posix.mkdir, which is no plain value",
    ),
    "code behind torch": (
        lambda: sealed(saved({"state_dict": Reduced(torch.hub.load, "canary", "x")})),
        "names torch.hub.load",
    ),
    "a function of torch": (
        lambda: sealed(saved({"state_dict": Reduced(torch.zeros, 10**12)})),
        "names __builtin__.getattr",
    ),
    "a function named by torch": (
        lambda: rezipped({"state_dict": {}}, lambda _: b"\x80\x02ctorch\nzeros\nK\x01\x85R."),
        "names torch.zeros",
    ),
    "a list of records moved": (
        lambda: sealed(saved({"state_dict": {}}), before=b"0" * 64),
        "list of records is not where it belongs",
    ),
    "a list of records without end": (
        lambda: sealed(
            b"0" * (2**22 + 1) + struct.pack("<4s4xHHLLH", b"PK\5\6", 0, 0, 2**22 + 1, 0, 0)
        ),
        "list of records is too long",
    ),
    "an instruction that torch does not know": (
        lambda: rezipped({"state_dict": {}}, lambda _: b"\x80\x02I1\n."),
        "holds what is neither a tensor nor a plain value",
    ),
    "a number that becomes memory": (
        lambda: sealed(saved({"state_dict": Reduced(bytearray, 10**11)})),
        "names .*bytearray, which is no plain value",
    ),
    "compressed": (
        lambda: rezipped({"state_dict": {"a": "0" * 10**7}}, plain, ZIP_DEFLATED),
        "its records are compressed",
    ),
    "a long text": (lambda: sealed(saved({"state_dict": {}, "x": "0" * 2**26})), "more than 33554"),
    "many values": (lambda: sealed(saved({"state_dict": {}, "x": [0] * 2**21})), "more than 2097"),
    "a storage larger than its record": (
        lambda: rezipped({"state_dict": {"w": torch.ones(10)}}, ten_claimed_to_be_many),
        "damaged",
    ),
    "two records of one name": (lambda: extra("archive/DATA.pkl"), "not those of a checkpoint"),
    "TorchScript": (lambda: extra("archive/constants.pkl"), "not those of a checkpoint"),
    "a list": (lambda: sealed(saved([1, 2])), "damaged"),
    "no weights": (lambda: sealed(saved({"epoch": 1})), "state_dict"),
    "weights that are none": (lambda: sealed(saved({"state_dict": {"w": 1}})), "tensors by name"),
    "weights in a list": (lambda: sealed(saved({"state_dict": [1]})), "damaged"),
    "an older torch's": (
        lambda: rezipped({"state_dict": {}}, lambda _: b"\x80\x03}X\x01\x00\x00\x00."),
        "damaged",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_a_stranger_made_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, expected = HOSTILE[name]
    path = tmp_path / "last.ckpt"
    path.write_bytes(make())
    with pytest.raises(InputError, match=expected) as told:
        read_checkpoint(path)
    assert str(told.value).startswith(f"{path} is damaged: ")
    assert "\n" not in str(told.value)
    assert [found.name for found in tmp_path.iterdir()] == ["last.ckpt"]  # no code ran


def test_the_payload_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make, _ = HOSTILE["code"]
    torch.load(io.BytesIO(make()), weights_only=False)
    assert (tmp_path / "canary").is_dir()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop", "huge", "absent"])
def test_what_is_no_file_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        path.touch()
        os.truncate(path, 2**42)
    elif kind != "absent":
        path.symlink_to("/dev/zero" if kind == "device" else path)
    with pytest.raises(InputError, match=str(path)) as told:
        read_checkpoint(path)
    assert "\n" not in str(told.value)


def test_a_checkpoint_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    with pytest.raises(RunError, match=r"names _codecs.encode.*state_dict of the callback"):
        SealedCheckpointIO().save_checkpoint({"state_dict": {}, "x": b"bytes"}, path)
    assert not path.exists()


def swapped(content: dict[str, Any], change: Callable[[torch.Tensor], Any]) -> dict[str, Any]:
    name = "model.encoder.0.weight"
    return {**content, "state_dict": {**content["state_dict"], name: change(_of(content, name))}}


def _of(content: dict[str, Any], name: str) -> torch.Tensor:
    weight: torch.Tensor = content["state_dict"][name]
    return weight


OTHERS: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "NaN": (lambda c: swapped(c, lambda w: w * torch.nan), "encoder.0.weight is not finite"),
    "too large for float32": (
        lambda c: swapped(c, lambda w: torch.full_like(w, 1e300, dtype=torch.float64)),
        "encoder.0.weight is not finite",
    ),
    "shape": (
        lambda c: swapped(c, lambda w: w[:1]),
        r"another network: .*encoder.0.weight has shape \(1, 1, 4, 4\) instead of \(64, 1, 4, 4\)",
    ),
    "tensor of a million times a million": (
        lambda c: swapped(c, lambda w: torch.zeros(1).expand(10**6, 10**6)),
        "another network",
    ),
    "integers": (lambda c: swapped(c, lambda w: w.long()), "is of torch.int64 instead of"),
    "complex": (
        lambda c: swapped(c, lambda w: w.to(torch.complex64)),
        "is of torch.complex64 instead of",
    ),
    "a name less": (lambda c: {**c, "state_dict": {}}, "it holds no model"),
    "a name more": (
        lambda c: {**c, "state_dict": {**c["state_dict"], "extra": torch.ones(1)}},
        "the network has no extra",
    ),
    "no means": (
        lambda c: {k: v for k, v in c.items() if k != "means"},
        "another network: 'means'",
    ),
    "means that are none": (lambda c: {**c, "means": "none"}, "another network"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_networks_or_a_broken_ones_is_one_line(
    name: str, tmp_path: Path, trained: Run
) -> None:
    change, expected = OTHERS[name]
    content = read_checkpoint(trained.folder / "checkpoints" / "last.ckpt")
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "last.ckpt"
    path.write_bytes(sealed(saved(change(content))))
    with pytest.raises(InputError, match=expected) as told:
        restore(replace(trained, folder=tmp_path), checkpoint="last")
    assert str(told.value).startswith(str(path))
    assert "\n" not in str(told.value)


def test_a_sealed_one_of_the_same_network_is_read(tmp_path: Path, trained: Run) -> None:
    """The archives that the tests above make are refused for what is wrong in them alone."""
    content = read_checkpoint(trained.folder / "checkpoints" / "last.ckpt")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(rezipped(content, plain))
    module = restore(replace(trained, folder=tmp_path), checkpoint="last")
    expected = restore(trained, checkpoint="last").state_dict()
    assert all(torch.equal(value, expected[k]) for k, value in module.state_dict().items())


def test_a_tensor_of_another_layout_is_no_networks() -> None:
    network = {"weight": torch.eye(2)}
    assert mismatch({"weight": torch.eye(2)}, network) is None
    for other in (torch.eye(2).to_sparse(), torch.eye(2, device="meta")):
        assert mismatch({"weight": other}, network) == "weight is no plain tensor"
