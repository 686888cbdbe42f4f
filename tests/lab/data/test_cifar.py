"""CIFAR-10's files, small ones with checksums of their own: read right, or refused unread."""

from __future__ import annotations

import pickle
from hashlib import md5
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torchvision
from numpy.typing import NDArray

import stelab
from stelab.engine.errors import InputError
from stelab.lab.data import CIFAR10

NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
RNG = np.random.default_rng(0)
PIXELS: NDArray[np.uint8] = RNG.integers(0, 256, (6, 20, 3, 32, 32), dtype=np.uint8)
LABELS = [[(i + 3 * part) % 10 for i in range(20)] for part in range(6)]
OPTIONS: dict[str, Any] = {
    "val_size": 20,
    "split_seed": 0,
    "limit": None,
    "batch_size": 8,
    "seed": 0,
    "mean": [0.5, 0.25, 0.0],
    "std": [0.5, 0.25, 1.0],
}


def content(part: int) -> bytes:
    """Return a file of the format: rows of 1,024 reds, greens and blues, and a list of labels."""
    table = {"data": PIXELS[part].reshape(20, 3072), "labels": LABELS[part], "batch_label": "x"}
    return pickle.dumps(table, protocol=2)


class Few(torchvision.datasets.CIFAR10):  # type: ignore[misc]  # torchvision has no types
    """What torchvision knows of CIFAR-10, but for the checksums."""

    train_list: ClassVar = [[n, md5(content(i)).hexdigest()] for i, n in enumerate(NAMES[:5])]
    test_list: ClassVar = [[NAMES[5], md5(content(5)).hexdigest()]]


class FewCIFAR(CIFAR10):
    """CIFAR-10 of these files."""

    dataset = Few


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for part, name in enumerate(NAMES):
        (folder / name).write_bytes(content(part))
    return tmp_path


def test_images_and_labels_are_read(root: Path) -> None:
    data = FewCIFAR(root=str(root), **OPTIONS)
    data.prepare_data()
    found: dict[bytes, int] = {}
    for split, size in (("train", 80), ("val", 20)):
        labels = data.labels(split)
        assert labels is not None and labels.bincount().tolist() == [size // 10] * 10
        pixels = data.format.denormalize(data.images(split)).numpy()
        found |= dict(zip(map(bytes, pixels), labels.tolist(), strict=True))
    everything = PIXELS[:5].reshape(-1, 3, 32, 32)
    assert found == dict(zip(map(bytes, everything), sum(LABELS[:5], []), strict=True))
    images = data.images("test")
    assert data.format.shape == (3, 32, 32)
    for channel, (mean, std) in enumerate(((0.5, 0.5), (0.25, 0.25), (0.0, 1.0))):
        expected = (PIXELS[5][:, channel].astype(np.float32) / 255 - mean) / std
        assert np.allclose(images[:, channel].numpy(), expected, atol=1e-6)
    labels = data.labels("test")
    assert labels is not None and labels.tolist() == LABELS[5]
    assert data.classes == 10


class Opens:
    """Would run code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("canary", "w"))


@pytest.mark.parametrize("kind", ["pickle", "flipped", "cut off", "folder", "huge"])
def test_what_is_not_verified_is_not_unpickled(
    kind: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    data = FewCIFAR(root=str(root), **OPTIONS)
    data.prepare_data()  # they were right
    path = root / "cifar-10-batches-py" / "data_batch_3"
    whole = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    else:
        flipped = bytes([whole[0] ^ 1]) + whole[1:]
        huge = bytes(2**25 + 1)
        kinds = {"pickle": pickle.dumps(Opens()), "flipped": flipped, "cut off": whole[:-9]}
        path.write_bytes({**kinds, "huge": huge}[kind])
    reason = {"folder": "it is no file", "huge": "too large"}.get(kind, "its MD5 checksum is wrong")
    for read in (data.prepare_data, lambda: data.images("train")):
        with pytest.raises(InputError, match=f"data_batch_3 is damaged: .*{reason}.*data.root"):
            read()
    assert not (root / "canary").exists()


def test_the_real_checksums_are_torchvisions(root: Path) -> None:
    data = stelab.build(stelab.compose("data=cifar10", f"data.root={root}").data)
    assert type(data).dataset is torchvision.datasets.CIFAR10
    with pytest.raises(InputError, match="data_batch_1 is damaged: its MD5 checksum is wrong"):
        data.prepare_data()


def test_a_runs_own_folder_is_not_downloaded_to(tmp_path: Path) -> None:
    data = FewCIFAR(root=str(tmp_path), **OPTIONS)
    data.may_download = False
    with pytest.raises(InputError, match=r"Few is not whole .* not downloaded to there"):
        data.prepare_data()
