"""``stelab encode``, ``decode`` and ``evaluate`` on a trained convolutional network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import Cli
from stelab.data import denormalize
from stelab.errors import InputError
from stelab.studies import Run
from stelab.training.codes import decode, encode, pack, unpack
from stelab.training.evaluate import load_data
from stelab.training.restore import restore


@pytest.mark.parametrize("shape", [(512, 1, 1), (12,), (3, 5)])
def test_packing_round_trips(shape: tuple[int, ...]) -> None:
    bits = torch.randint(0, 2, (7, *shape)).float()
    codes = pack(bits)
    assert codes.shape == (7, -(-bits[0].numel() // 8))
    assert torch.equal(unpack(codes, shape), bits)


def pngs(folder: Path) -> np.ndarray:
    return np.stack([np.array(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def test_encode_and_decode_round_trip(cli: Cli, tmp_path: Path, trained: Run) -> None:
    result = cli("encode", f"run={trained.folder}", "split=val")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "codes.npy: 128 images, 64 bytes each\n"
    codes = np.load(tmp_path / "codes.npy")
    assert codes.shape == (128, 64)

    module = restore(trained, checkpoint="last")
    images = load_data(trained.config, None).images("val")
    with torch.no_grad():
        bits = module.model.encode(images)
        expected = denormalize(module.model.decode(bits))
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


ENCODE = {"checkpoint": "last", "split": "test", "images": None, "data": None, "overwrite": False}
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
    (decode, {**DECODE, "codes": "taken.npy", "output": "taken.npy"}, "is a file"),
]


@pytest.mark.parametrize(("function", "arguments", "expected"), MISTAKES, ids=lambda v: str(v)[:40])
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
