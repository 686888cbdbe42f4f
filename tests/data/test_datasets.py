"""Datasets: splits, normalization, and clear words for files that are not what they should be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import stelab
from conftest import Cli
from stelab.data import ImageDataModule, denormalize, normalize
from stelab.errors import InputError


def build(*overrides: str) -> ImageDataModule:
    return stelab.build(stelab.compose(*overrides).data)


def keys(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_normalization_round_trips_every_pixel_value() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).repeat(28 * 28)[: 256 * 784].reshape(-1, 28, 28)
    images = normalize(pixels)
    assert images.shape == (256, 1, 28, 28)
    assert images.dtype == torch.float32
    assert (images.min().item(), images.max().item()) == (-1, 1)
    assert torch.equal(denormalize(images), pixels)


def test_mnist5k_is_real_and_split_stratified() -> None:
    data = build("data=mnist5k")
    sizes = [len(data.images(split)) for split in ("train", "val", "test")]
    assert sizes == [3500, 500, 1000]
    splits = [keys(data.images(split)) for split in ("train", "val", "test")]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 5000
    first = data.images("test")[0]
    assert first.shape == (1, 28, 28)
    assert -1 <= first.min() < first.max() <= 1


def test_hold_out_is_stratified_and_seeded() -> None:
    from stelab.data.datamodule import hold_out

    labels = torch.arange(10).repeat_interleave(500)
    kept, held = hold_out(labels, 1000, seed=0, what="data.test_size", among="images")
    assert labels[held].bincount().tolist() == [100] * 10
    assert labels[kept].bincount().tolist() == [400] * 10
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(5000))
    assert labels[kept][:200].unique().numel() == 10  # shuffled: a slice has every class
    again = hold_out(labels, 1000, seed=0, what="", among="")[1]
    other = hold_out(labels, 1000, seed=1, what="", among="")[1]
    assert torch.equal(again, held)
    assert not torch.equal(other.sort().values, held.sort().values)


@pytest.mark.parametrize("size", [1, 13, 999])
def test_hold_out_takes_any_size(size: int) -> None:
    from stelab.data.datamodule import hold_out

    labels = torch.arange(10).repeat_interleave(100)
    kept, held = hold_out(labels, size, seed=0, what="", among="")
    assert (len(kept), len(held)) == (1000 - size, size)
    counts = labels[held].bincount(minlength=10)
    assert counts.max() - counts.min() <= 1


def test_the_split_does_not_depend_on_the_runs_seed() -> None:
    one, two = build("data=mnist5k", "seed=1"), build("data=mnist5k", "seed=2")
    assert torch.equal(one.images("test"), two.images("test"))
    other = build("data=mnist5k", "data.split_seed=1")
    assert keys(other.images("test")) != keys(one.images("test"))


def test_limit_and_empty_validation() -> None:
    data = build("data=mnist5k", "data.limit=64", "data.val_size=0", "monitor=train/loss")
    assert (len(data.images("train")), len(data.images("test"))) == (64, 64)
    assert not data.has("val")
    assert len(data.probe()) == 64
    with pytest.raises(InputError, match="val split is empty"):
        data.images("val")


def test_too_large_a_split_is_refused() -> None:
    with pytest.raises(InputError, match=r"data.val_size must leave images.*4000 of 4000"):
        build("data=mnist5k", "data.val_size=4000").setup()


def test_mnist_whole(mnist_root: Path) -> None:
    data = build("data=mnist", f"data.root={mnist_root}", "data.val_size=5000")
    data.prepare_data()
    train, val, test = (data.images(split) for split in ("train", "val", "test"))
    assert [len(train), len(val), len(test)] == [55_000, 5_000, 10_000]
    assert train.mean().item() == pytest.approx(2 * 0.1307 - 1, abs=2e-3)  # MNIST's known mean
    # The official test set is never validated or trained on.
    whole = build("data=mnist", f"data.root={mnist_root}", "data.val_size=0", "monitor=train/loss")
    assert len(whole.images("train")) == 60_000
    assert torch.equal(whole.images("test"), test)
    official = keys(whole.images("train"))
    assert keys(train) | keys(val) == official


@pytest.fixture
def mnist_copy(mnist_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(mnist_root / "MNIST", tmp_path / "MNIST")
    for path in (tmp_path / "MNIST" / "raw").iterdir():
        path.chmod(0o644)
    return tmp_path


def test_a_flipped_bit_is_found_by_checksum(mnist_copy: Path) -> None:
    path = mnist_copy / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[5_000_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"t10k-images.*MD5.*data.root.*data=mnist5k"):
        build("data=mnist", f"data.root={mnist_copy}").prepare_data()


def test_a_half_written_file_is_found(mnist_copy: Path) -> None:
    path = mnist_copy / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(InputError, match=r"train-images.*1000000 bytes.*data.root.*data=mnist5k"):
        build("data=mnist", f"data.root={mnist_copy}").prepare_data()


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_offline_is_one_clear_message(cli: Cli, tmp_path: Path, name: str) -> None:
    closed = "http://127.0.0.1:9"  # nothing listens there
    result = cli(
        *("train", f"data={name}", f"data.root={tmp_path / 'data'}"),
        http_proxy=closed,
        https_proxy=closed,
    )
    assert result.returncode == 2
    assert "cannot be downloaded" in result.stderr
    assert "data=mnist5k" in result.stderr
    assert "data.root=" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "outputs").exists()
