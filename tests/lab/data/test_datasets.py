"""Datasets: splits, normalization, and clear words for files that are not what they should be."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from omegaconf import OmegaConf

import stelab
from conftest import Cli
from stelab.engine.config import CONF_DIR
from stelab.engine.errors import InputError
from stelab.lab.data import ImageDataModule, ImageFormat, MNIST5k, denormalize, normalize


def build(*overrides: str) -> ImageDataModule:
    return stelab.build(stelab.compose(*overrides).data)


def labelled(data: ImageDataModule, split: str) -> set[tuple[int, int]]:
    """Return hashes of all images, each with its label."""
    labels = data.labels(split)
    assert labels is not None
    hashes = (hash(image.tobytes()) for image in data.images(split).numpy())
    return set(zip(hashes, labels.tolist(), strict=True))


def keys(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


CIFAR = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]}
LEVELS = [{"mean": 0.5, "std": 0.5}, {"mean": 0.0, "std": 1.0}, {"mean": 0.1307, "std": 0.3081}]


@pytest.mark.parametrize("levels", [*LEVELS, CIFAR], ids=str)
def test_normalization_round_trips_every_pixel_value(levels: dict[str, Any]) -> None:
    pixels = torch.arange(256, dtype=torch.uint8).repeat(6).reshape(-1, 3, 2, 4)
    images = normalize(pixels, **levels)
    assert images.shape == (64, 3, 2, 4)
    assert images.dtype == torch.float32
    for i, channel in enumerate(images.unbind(1)):
        mean, std = (v[i] if isinstance(v, list) else v for v in levels.values())
        assert torch.equal(channel, pixels[:, i].float().div(255).sub(mean).div(std))
    assert torch.equal(denormalize(images, **levels), pixels)


def test_the_range_is_that_of_black_and_white() -> None:
    for mean, std, expected in ((0.5, 0.5, (-1, 1)), (0.0, 1.0, (0, 1)), (0.5, 0.25, (-2, 2))):
        assert ImageFormat((1, 28, 28), mean, std).range == expected
    assert ImageFormat((3, 8, 8), (0.5, 0.0, 0.25), (0.5, 0.5, 0.25)).range == (-1, 3)


def test_a_mean_of_other_channels_is_refused() -> None:
    with pytest.raises(InputError, match="data.mean must be a number, or one for each of 1 chann"):
        build("data=mnist5k", "data.mean=[0.5,0.5,0.5]").images("train")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.std=0", "data.std must be greater than 0"),
        ("data.std=[0.5,-1]", "data.std.* must be greater than 0"),
        ("data.mean=white", "data.mean must be a valid number"),
        ("data.mean=[0.5,x]", "data.mean.* must be a valid number"),
    ],
)
def test_what_is_no_mean_or_std_is_refused(override: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        stelab.compose("data=mnist5k", override)
    key, _, value = override.removeprefix("data.").partition("=")
    with pytest.raises(ValueError, match=key):
        MNIST5k(**FEW, **{key: OmegaConf.create(f"[{value}]")[0]})


FEW: dict[str, Any] = {
    "test_size": 10,
    "val_size": 10,
    "split_seed": 0,
    "limit": None,
    "batch_size": 4,
    "seed": 0,
}


def test_grey_images_in_0_to_1_are_there_too() -> None:
    images = build("data=mnist5k", "data.mean=0", "data.std=1").images("test")
    assert (images.min().item(), images.max().item()) == (0, 1)
    assert torch.equal((images - 0.5) / 0.5, build("data=mnist5k").images("test"))


def test_runs_from_before_the_keys_are_normalized_as_they_were() -> None:
    assert torch.equal(
        MNIST5k(**FEW).images("test"), MNIST5k(**FEW, mean=0.5, std=0.5).images("test")
    )


# Those that are on this machine; a new YAML file without such a key is tested without an edit.
LOCAL = [
    path.stem
    for path in sorted(Path(CONF_DIR, "data").glob("*.yaml"))
    if not {"root", "folder", "path"} & set(OmegaConf.load(path))
    and path.stem != "blank"  # no images of anything
]


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("name", LOCAL)
def test_a_split_is_normalized_images_in_a_fixed_order(name: str, split: str) -> None:
    data = build(f"data={name}")
    images = data.images(split)
    assert images.shape == (len(images), *data.format.shape)
    assert images.dtype == torch.float32
    assert len(images) > 0
    low, high = data.format.range
    assert low <= images.min() < images.max() <= high
    again = build(f"data={name}", "data.limit=10", "seed=1")
    assert torch.equal(again.images(split), images[:10])
    labels = data.labels(split)
    assert (labels is None) == (data.classes is None)
    if labels is not None:
        assert labels.shape == (len(images),)
        assert labels.dtype == torch.int64
        assert set(labels.tolist()) == set(range(data.classes or 0))


@pytest.mark.parametrize("name", ["mnist", "kmnist", "fashion_mnist"])
def test_how_many_classes_there_are_is_known_without_the_files(name: str, tmp_path: Path) -> None:
    assert build(f"data={name}", f"data.root={tmp_path}").classes == 10
    assert not list(tmp_path.iterdir())


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
    from stelab.lab.data.datamodule import hold_out

    labels = torch.arange(10).repeat_interleave(500)
    kept, held = hold_out(labels, 1000, seed=0, key="data.test_size", of="images")
    assert labels[held].bincount().tolist() == [100] * 10
    assert labels[kept].bincount().tolist() == [400] * 10
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(5000))
    assert labels[kept][:200].unique().numel() == 10  # shuffled: a slice has every class
    again = hold_out(labels, 1000, seed=0, key="", of="")[1]
    other = hold_out(labels, 1000, seed=1, key="", of="")[1]
    assert torch.equal(again, held)
    assert not torch.equal(other.sort().values, held.sort().values)


@pytest.mark.parametrize("size", [1, 13, 999])
def test_hold_out_takes_any_size(size: int) -> None:
    from stelab.lab.data.datamodule import hold_out

    labels = torch.arange(10).repeat_interleave(100)
    kept, held = hold_out(labels, size, seed=0, key="", of="")
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
        build("data=mnist5k", "data.val_size=4000").images("train")


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
    assert labelled(data, "train") | labelled(data, "val") == labelled(whole, "train")


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


SETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
DOWNLOADED = [*SETS, "binarized_mnist", "cifar10"]


@pytest.fixture
def idx_files(tmp_path: Path) -> Path:
    """Files of the three datasets, right but for MNIST's checksums: zeros that take no disk."""
    for name in SETS.values():
        raw = tmp_path / name / "raw"
        raw.mkdir(parents=True)
        for part, count in ("train", 60_000), ("t10k", 10_000):
            for kind, *shape in ("images-idx3", 28, 28), ("labels-idx1",):
                path = raw / f"{part}-{kind}-ubyte"
                path.write_bytes(
                    struct.pack(f">{len(shape) + 2}I", 0x801 + len(shape), count, *shape)
                )
                os.truncate(path, path.stat().st_size + count * 28 ** len(shape))
    return tmp_path


def overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def do(path: Path) -> None:
        path.unlink()
        make(path)

    return do


DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "magic": (
        "t10k-images-idx3",
        lambda p: overwrite(p, 2, b"\x0d"),
        "header is 00000d03 .*00000803",
    ),
    "dimensions": ("train-labels-idx1", lambda p: overwrite(p, 3, b"\3"), "its header is 00000803"),
    "count": ("train-images-idx3", lambda p: overwrite(p, 4, b"\xff"), "its header is .* ff00ea60"),
    "rows and columns": (
        "train-images-idx3",
        lambda p: overwrite(p, 8, struct.pack(">II", 784, 1)),
        "its header is 00000803 0000ea60 00000310 00000001 instead of",
    ),
    "label": (
        "train-labels-idx1",
        lambda p: overwrite(p, 500, b"\x0a"),
        "the label 10, more than 9",
    ),
    "last label": ("t10k-labels-idx1", lambda p: overwrite(p, 10_007, b"\xff"), "the label 255"),
    "trailing": (
        "t10k-labels-idx1",
        lambda p: os.truncate(p, 10_009),
        "10009 bytes instead of 10008",
    ),
    "pipe": ("t10k-labels-idx1", instead(os.mkfifo), "it is no file"),
    "folder": ("train-images-idx3", instead(Path.mkdir), "it is no file"),
    "device": ("t10k-images-idx3", instead(lambda p: p.symlink_to("/dev/zero")), "no file"),
    "loop": ("train-labels-idx1", instead(lambda p: p.symlink_to(p)), "it is no file"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist"])
def test_damaged_files_are_named(name: str, damage: str, idx_files: Path) -> None:
    file, do, expected = DAMAGE[damage]
    data = build(f"data={name}", f"data.root={idx_files}")
    data.prepare_data()  # they were right
    do(idx_files / SETS[name] / "raw" / f"{file}-ubyte")
    with pytest.raises(
        InputError, match=rf"{SETS[name]}/raw/{file}.*{expected}.*data.root"
    ) as told:
        data.prepare_data()
    assert "\n" not in str(told.value)


def test_mnists_headers_are_checked_beside_its_checksums(idx_files: Path) -> None:
    overwrite(idx_files / "MNIST" / "raw" / "train-images-idx3-ubyte", 3, b"\1")
    with pytest.raises(InputError, match=r"train-images.*its header is 00000801"):
        build("data=mnist", f"data.root={idx_files}").prepare_data()


def test_the_raw_files_are_read_whatever_lies_beside_them(mnist_root: Path, tmp_path: Path) -> None:
    """torchvision would prefer a pickle in ``processed``, where an old version put one."""
    (tmp_path / "MNIST" / "processed").mkdir(parents=True)
    (tmp_path / "MNIST" / "raw").symlink_to(mnist_root / "MNIST" / "raw")
    for name in ("training.pt", "test.pt"):
        (tmp_path / "MNIST" / "processed" / name).write_bytes(b"no pickle")
    data = build("data=mnist", f"data.root={tmp_path}")
    dataset = torchvision.datasets.MNIST(str(mnist_root), train=False)
    grey = dataset.data.unsqueeze(1)
    assert torch.equal(data.images("test"), normalize(grey, mean=0.5, std=0.5))
    labels = data.labels("test")
    assert labels is not None and labels.dtype == torch.int64
    assert torch.equal(labels, dataset.targets)


@pytest.mark.parametrize("name", DOWNLOADED)
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
