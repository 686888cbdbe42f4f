"""``stelab encode``, ``decode`` and ``evaluate`` on a trained convolutional network."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import Cli
from stelab.data import denormalize
from stelab.studies import Run
from stelab.training.codes import pack, unpack
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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["encode", "output=taken.npy"], "taken.npy exists already"),
        (["encode", "output=codes.txt"], "output must end in .npy"),
        (["encode", "images=nowhere"], "images must be a folder"),
        (["encode", "images=full"], "not a readable image"),
        (["encode", "images=empty"], "holds no images"),
        (["encode", "split=training"], "split must be 'train', 'val' or 'test'"),
        (["decode"], "codes.npy is not a file of codes"),
        (["decode", "codes=taken.npy"], "(images, 64)"),
        (["decode", "codes=full/text"], "is not a file of codes"),
        (["decode", "output=full"], "full holds files already"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_mistakes(
    cli: Cli, tmp_path: Path, trained: Run, arguments: list[str], expected: str
) -> None:
    np.save(tmp_path / "taken.npy", np.zeros((3, 5), dtype=np.uint8))
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "text").write_text("no image, no codes")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    result = cli(arguments[0], f"run={trained.folder}", *arguments[1:])
    assert result.returncode == 2
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_damaged_checkpoint_is_named(cli: Cli, tmp_path: Path, trained: Run) -> None:
    shutil.copytree(trained.folder, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    result = cli("evaluate", "run=run")
    assert result.returncode == 2
    assert "last.ckpt is damaged" in result.stderr
    assert "Traceback" not in result.stderr
