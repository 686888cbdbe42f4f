"""``stelab encode``, ``decode`` and ``evaluate`` on a trained convolutional network."""

from __future__ import annotations

import io
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import stelab
from conftest import Cli, Start
from stelab.engine.errors import InputError
from stelab.engine.studies import Run
from stelab.lab.data import ImageFormat, denormalize
from stelab.lab.training import build_module
from stelab.lab.training.checkpoint_file import SealedCheckpointIO, read_checkpoint
from stelab.lab.training.codes import code_format, decode, encode, pack, unpack
from stelab.lab.training.restore import evaluate, load_data, restore
from waiting import PATIENCE, wait_until


@pytest.mark.parametrize("shape", [(512, 1, 1), (12,), (3, 5)])
def test_packing_round_trips(shape: tuple[int, ...]) -> None:
    bits = torch.randint(0, 2, (7, *shape)).float()
    codes = pack(bits)
    assert codes.shape == (7, -(-bits[0].numel() // 8))
    assert torch.equal(unpack(codes, shape), bits)


def test_a_codebook_too_large_for_numbers_is_refused() -> None:
    module = build_module(stelab.compose("task=tokenize", "data=mnist5k", "model.bits=64"))
    with pytest.raises(InputError, match=f"63 bits at most, but the codebook has {2**64} codewor"):
        code_format(module, ImageFormat((1, 28, 28), 0.5, 0.5))


def pngs(folder: Path) -> np.ndarray:
    return np.stack([np.array(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def test_encode_and_decode_round_trip(cli: Cli, tmp_path: Path, trained: Run) -> None:
    result = cli("encode", f"run={trained.folder}", "split=val")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "codes.npy: 128 images, 64 bytes each\n"
    codes = np.load(tmp_path / "codes.npy")
    assert codes.shape == (128, 64)

    module = restore(trained, checkpoint="last")
    images = load_data(trained).images("val")
    with torch.no_grad():
        bits = module.model.encode(images)
        expected = denormalize(module.model.decode(bits), mean=0.5, std=0.5).squeeze(1)
    assert torch.equal(unpack(codes, (512, 1, 1)), bits)

    result = cli("decode", f"run={trained.folder}")
    assert result.returncode == 0, result.stderr
    assert np.array_equal(pngs(tmp_path / "decoded"), expected.numpy())

    # A folder of images: the decoded ones, encoded again from their files.
    again = cli("encode", f"run={trained.folder}", "images=decoded", "output=again.npy")
    assert again.returncode == 0, again.stderr
    assert np.load(tmp_path / "again.npy").shape == (128, 64)


def test_images_of_another_size_and_colour_are_made_fit(
    cli: Cli, tmp_path: Path, trained: Run
) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 40), (200, 10, 10)).save(tmp_path / "photos" / "a.jpg")
    Image.new("L", (28, 28), 128).save(tmp_path / "photos" / "b.png")
    result = cli("encode", f"run={trained.folder}", "images=photos")
    assert result.returncode == 0, result.stderr
    assert np.load(tmp_path / "codes.npy").shape == (2, 64)


def test_another_dataset(cli: Cli, tmp_path: Path, trained: Run, mnist_root: Path) -> None:
    arguments = (f"run={trained.folder}", "data=mnist", f"data.root={mnist_root}", "data.limit=30")
    assert cli("encode", *arguments).returncode == 0
    assert np.load(tmp_path / "codes.npy").shape == (30, 64)
    result = cli("evaluate", *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("test/loss ")


def test_evaluate_repeats_the_runs_test_metrics(cli: Cli, trained: Run) -> None:
    shutil.rmtree(trained.folder / "figures")
    result = cli("evaluate", f"run={trained.folder}")
    assert result.returncode == 0, result.stderr
    lines = dict(line.split() for line in result.stdout.splitlines())
    assert float(lines["test/mse"]) == pytest.approx(trained.metrics["test/mse"], abs=1e-6)
    assert (trained.folder / "figures" / "reconstructions.png").is_file()
    assert cli("evaluate", f"run={trained.folder}", "checkpoint=best").returncode == 0


ENCODE: dict[str, Any] = {
    "checkpoint": "last",
    "split": "test",
    "images": None,
    "data": None,
    "overwrite": False,
}
DECODE = {"checkpoint": "last", "overwrite": False}

MISTAKES: list[tuple[Callable[..., object], dict[str, object], str]] = [
    (encode, {**ENCODE, "output": "taken.npy"}, "taken.npy exists already"),
    (encode, {**ENCODE, "output": "codes.txt"}, "output must end in .npy"),
    (encode, {**ENCODE, "output": "c.npy", "images": "nowhere"}, "images must be a folder"),
    (encode, {**ENCODE, "output": "c.npy", "images": "full"}, "not a readable image"),
    (encode, {**ENCODE, "output": "c.npy", "images": "empty"}, "holds no images"),
    (decode, {**DECODE, "codes": "c.npy", "output": "out"}, "c.npy is not a file of codes"),
    (decode, {**DECODE, "codes": "taken.npy", "output": "out"}, r"\(images, 64\)"),
    (decode, {**DECODE, "codes": "full/text", "output": "out"}, "is not a file of codes"),
    (decode, {**DECODE, "codes": "taken.npy", "output": "full"}, "full holds files already"),
    (
        decode,
        {**DECODE, "codes": "taken.npy", "output": "taken.npy"},
        "must be a folder to write to",
    ),
]


def _named(value: Any) -> str:
    """Call a function by its name: its text holds an address, another one in each process."""
    return str(getattr(value, "__name__", value))[:40]


@pytest.mark.parametrize(("function", "arguments", "expected"), MISTAKES, ids=_named)
def test_mistakes_are_named_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained: Run,
    function: Callable[..., object],
    arguments: dict[str, object],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("taken.npy", np.zeros((3, 5), dtype=np.uint8))
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/text").write_text("no image, no codes")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(InputError, match=expected):
        function(trained, **arguments)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_mistake_ends_with_code_2(cli: Cli, tmp_path: Path, trained: Run) -> None:
    (tmp_path / "codes.npy").write_bytes(b"precious")
    result = cli("encode", f"run={trained.folder}")
    assert result.returncode == 2
    assert result.stderr.startswith("stelab: codes.npy exists already")
    assert (tmp_path / "codes.npy").read_bytes() == b"precious"


def test_a_damaged_checkpoint_is_named(cli: Cli, tmp_path: Path, trained: Run) -> None:
    shutil.copytree(trained.folder, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    result = cli("evaluate", "run=run")
    assert result.returncode == 2
    assert "last.ckpt is damaged" in result.stderr
    assert "Traceback" not in result.stderr


def npy(codes: np.ndarray, **header: object) -> bytes:
    """Write a .npy file, with other things in its header than are true."""
    file = io.BytesIO()
    true = np.lib.format.header_data_from_array_1_0(codes)
    np.lib.format.write_array_header_1_0(file, {**true, **header})
    return file.getvalue() + codes.tobytes("A")


CODES = np.arange(3 * 64, dtype=np.uint8).reshape(3, 64)
OTHER_CODES: dict[str, tuple[bytes, str]] = {
    "more than there are": (npy(CODES, shape=(10**15, 64)), r"by its header.*, but 192 follow"),
    "fewer than there are": (npy(CODES, shape=(2, 64)), "it holds 128 bytes of codes, but 192"),
    "so many that numbers overflow": (npy(CODES, shape=(2**58, 64)), "but 192 follow"),
    "cut off": (npy(CODES)[:-1], "but 191 follow"),
    "none": (npy(CODES[:0]), r"has shape \(0, 64\)"),
    "a negative number of them": (npy(CODES, shape=(-3, 64)), r"has shape \(-3, 64\)"),
    "objects": (npy(CODES, descr="|O"), "must hold uint8 codes .* but holds object"),
    "numbers": (npy(CODES.astype(np.int64)), "but holds int64 of shape"),
    "fields": (npy(CODES, descr=[("a", "|u1")]), "must hold uint8 codes"),
    "one dimension": (npy(CODES[0]), r"but holds uint8 of shape \(64,\)"),
    "a header that nests": (
        b"\x93NUMPY\x01\x00" + (9000).to_bytes(2, "little") + b"(" * 9000,
        "not a file of codes",
    ),
    "a longer header's version": (b"\x93NUMPY\x02\x00" + b"\xff" * 9000, "not .npy 1.0"),
    "empty": (b"", "not a file of codes"),
}


@pytest.mark.parametrize("name", OTHER_CODES)
def test_what_are_no_codes_is_one_line(name: str, tmp_path: Path, trained: Run) -> None:
    content, expected = OTHER_CODES[name]
    (tmp_path / "codes.npy").write_bytes(content)
    arguments = {"codes": f"{tmp_path}/codes.npy", "output": f"{tmp_path}/out"}
    with pytest.raises(InputError, match=expected) as told:
        decode(trained, checkpoint="last", overwrite=False, **arguments)
    assert "\n" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["codes.npy"]


def test_codes_in_columns_are_the_same_codes(tmp_path: Path, trained: Run) -> None:
    np.save(tmp_path / "rows.npy", CODES)
    np.save(tmp_path / "columns.npy", np.asfortranarray(CODES))
    for name in ("rows", "columns"):
        arguments = {"codes": f"{tmp_path}/{name}.npy", "output": f"{tmp_path}/{name}"}
        assert decode(trained, checkpoint="last", overwrite=False, **arguments) == 3
    assert np.array_equal(pngs(tmp_path / "rows"), pngs(tmp_path / "columns"))


def test_encoding_writes_what_numpy_would(tmp_path: Path, trained: Run) -> None:
    codes, _ = encode(trained, **{**ENCODE, "split": "train"}, output=f"{tmp_path}/codes.npy")
    assert len(codes) > 1
    expected = io.BytesIO()
    np.save(expected, np.array(codes))
    assert (tmp_path / "codes.npy").read_bytes() == expected.getvalue()


LIMITED = """
import resource, sys
import stelab.lab.training.codes
from stelab.apps.main import main

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak()
try:
    main()
finally:
    print(peak() - before, file=sys.stderr)
"""


def test_three_gigabytes_of_codes_are_streamed(start: Start, tmp_path: Path, trained: Run) -> None:
    codes = tmp_path / "codes.npy"
    count = 3 * 2**30 // 64
    codes.write_bytes(npy(CODES[:0], shape=(count, 64)))
    os.truncate(codes, codes.stat().st_size + 64 * count)  # zeros that take no disk
    process = start("decode", f"run={trained.folder}", code=LIMITED)
    wait_until(lambda: bool(list(tmp_path.glob(".decoded.*/00000300.png"))), process=process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGINT
    assert int(stderr.split()[-1]) < 2**18  # KiB more than what importing torch takes
    assert [path.name for path in tmp_path.iterdir()] == ["codes.npy"]  # nothing half done


def test_decoding_over_other_files_keeps_them(tmp_path: Path, trained: Run) -> None:
    np.save(tmp_path / "codes.npy", CODES)
    (tmp_path / "out").mkdir()
    for name in ("00000.png", "notes.txt"):
        (tmp_path / "out" / name).write_text("old")
    arguments = {"codes": f"{tmp_path}/codes.npy", "output": f"{tmp_path}/out"}
    decode(trained, checkpoint="last", overwrite=True, **arguments)
    assert pngs(tmp_path / "out").shape == (3, 28, 28)
    assert (tmp_path / "out" / "notes.txt").read_text() == "old"
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_an_image_that_cannot_be_read_leaves_the_old_codes(tmp_path: Path, trained: Run) -> None:
    (tmp_path / "images").mkdir()
    for i in range(101):  # more than a batch
        Image.new("L", (28, 28), i % 256).save(tmp_path / "images" / f"{i:03}.png")
    (tmp_path / "images" / "100.png").write_bytes(b"")
    (tmp_path / "codes.npy").write_bytes(b"old")
    arguments = {**ENCODE, "images": f"{tmp_path}/images", "overwrite": True}
    with pytest.raises(InputError, match=r"100.png is not a readable image"):
        encode(trained, **arguments, output=f"{tmp_path}/codes.npy")
    assert (tmp_path / "codes.npy").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes.npy", "images"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("file/codes.npy", "file must be a folder to write to, but is none"),
        ("file/more/codes.npy", "file must be a folder to write to, but is none"),
        ("x" * 300 + ".npy", "nothing can be written to .*: File name too long"),
        ("x\0.npy", "nothing can be written to .*: embedded null byte"),
        ("folder.npy", "must be a file to write, but is a folder"),
        ("link.npy", "link.npy exists already"),
    ],
)
def test_where_nothing_can_be_written_is_one_line(
    output: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder.npy").mkdir()
    Path("link.npy").symlink_to("nowhere")
    with pytest.raises(InputError, match=expected) as told:
        encode(trained, **ENCODE, output=output)
    assert "\n" not in str(told.value)
    assert len(list(tmp_path.iterdir())) == 3


def test_overflowing_metrics_are_no_metrics(tmp_path: Path, trained: Run) -> None:
    content = read_checkpoint(trained.folder / "checkpoints" / "last.ckpt")
    weight = content["state_dict"]["model.decoder.0.weight"]
    content["state_dict"]["model.decoder.0.weight"] = torch.full_like(weight, 3e38)
    SealedCheckpointIO().save_checkpoint(content, tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(InputError, match=r"test/loss is nan with last.ckpt of "):
        evaluate(replace(trained, folder=tmp_path), checkpoint="last", split="test")


def foreign(run: Run, folder: Path) -> Run:
    """Copy a run as a stranger may have made it."""
    shutil.copytree(run.folder, folder)
    return replace(run, folder=folder)


TABLES: dict[str, Callable[[Path], object]] = {
    "absent": lambda path: None,
    "a pipe": os.mkfifo,
    "text": lambda path: path.write_text("epoch,train/mse\n0,<script>\n"),
    "another table": lambda path: path.write_text("a,b\n1,2\n"),
    "bytes": lambda path: path.write_bytes(b"\xff" * 100),
    "empty": Path.touch,
    "huge": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 2**40),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_cannot_be_drawn_is_one_line(name: str, tmp_path: Path, trained: Run) -> None:
    run = foreign(trained, tmp_path / "run")
    (run.folder / "metrics.csv").unlink()
    TABLES[name](run.folder / "metrics.csv")
    with pytest.raises(InputError, match="metrics.csv is not the table of a run's metrics"):
        evaluate(run, checkpoint="last", split="test")


def test_figures_are_drawn_in_the_runs_folder_alone(tmp_path: Path, trained: Run) -> None:
    run = foreign(trained, tmp_path / "run")
    (tmp_path / "precious").write_text("mine")
    picture = run.folder / "figures" / "loss.png"
    picture.unlink()
    picture.symlink_to(tmp_path / "precious")
    evaluate(run, checkpoint="last", split="test")
    assert not picture.is_symlink()
    assert (tmp_path / "precious").read_text() == "mine"
    shutil.rmtree(picture.parent)
    (tmp_path / "elsewhere").mkdir()
    picture.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="must be a folder, but is a link"):
        evaluate(run, checkpoint="last", split="test")
    assert not list((tmp_path / "elsewhere").iterdir())


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let a write fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_leaves_the_old_output(tmp_path: Path, trained: Run) -> None:
    (tmp_path / "codes.npy").write_bytes(b"old")
    with files_of_at_most(4000), pytest.raises(OSError, match="too large"):
        encode(
            trained, **{**ENCODE, "split": "val", "overwrite": True}, output=f"{tmp_path}/codes.npy"
        )
    assert (tmp_path / "codes.npy").read_bytes() == b"old"
    np.save(tmp_path / "codes.npy", CODES)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "00000.png").write_text("old")
    arguments = {"codes": f"{tmp_path}/codes.npy", "output": f"{tmp_path}/out"}
    with files_of_at_most(100), pytest.raises(OSError, match="too large"):
        decode(trained, checkpoint="last", overwrite=True, **arguments)
    assert (tmp_path / "out" / "00000.png").read_text() == "old"
    assert {path.name for path in tmp_path.rglob("*")} == {"codes.npy", "out", "00000.png"}
