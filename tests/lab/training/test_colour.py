"""Images in colour, of no square size: trained on, encoded, decoded, shown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from numpy.typing import NDArray
from PIL import Image

import stelab
from stelab.engine.comparison import compare
from stelab.engine.errors import InputError
from stelab.engine.studies import Run, load, read_run
from stelab.lab.data import ImageFormat
from stelab.lab.training.codes import decode, encode, encode_projected, unpack, write_projected
from stelab.lab.training.reconstructions import picture_reconstructions
from stelab.lab.training.restore import evaluate, image_format, load_data, restore

HEIGHT, WIDTH = 8, 6
FORM = ImageFormat((3, HEIGHT, WIDTH), (0.25, 0.5, 0.0), (0.5, 0.5, 1.0))
NETWORK = '''
"""A linear autoencoder of small images in colour."""
from torch import nn
from stelab.lab.models import Autoencoder

def linear(*, binarizer, bits):
    return Autoencoder(
        encoder=nn.Sequential(nn.Flatten(), nn.Linear(144, bits)),
        binarizer=binarizer,
        decoder=nn.Sequential(nn.Linear(bits, 144), nn.Unflatten(1, (3, 8, 6))),
        code_shape=(bits,),
        signed=True,
    )
'''
YAML = """
_target_: {}.linear
bits: 12
binarizer:
  _target_: stelab.binarizer.Binarizer
  threshold: ${{threshold}}
  estimator: ${{estimator}}
"""


def pictures(count: int) -> NDArray[np.uint8]:
    """Draw images of one colour, each channel its own."""
    colours = np.random.default_rng(0).integers(0, 256, (count, 1, 1, 3))
    return np.broadcast_to(colours, (count, HEIGHT, WIDTH, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A module of its own, and groups that name it."""
    folder = tmp_path_factory.mktemp("colour")
    name = f"colour_{folder.name}"
    (folder / f"{name}.py").write_text(NETWORK)
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "linear.yaml").write_text(YAML.format(name))
    np.savez(folder / "images.npz", images=pictures(96), labels=np.arange(96) % 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder, name


@pytest.fixture(scope="module")
def run(package: tuple[Path, str]) -> Run:
    folder, _ = package
    data = ("data=npz", f"data.path={folder}/images.npz", "data.test_size=16", "data.val_size=16")
    levels = ("data.mean=[0.25,0.5,0.0]", "data.std=[0.5,0.5,1.0]")
    cfg = stelab.compose(
        *("model=linear", *data, *levels, "trainer=cpu", "trainer.max_epochs=40", "study=colour"),
        *("optimizer.lr=0.01", "data.batch_size=16", f"paths.outputs={folder}/outputs"),
        config_dir=str(folder / "conf"),
    )
    return stelab.train(cfg)


Package = tuple[Path, str]


def test_a_run_records_what_its_images_are(run: Run) -> None:
    entries = {"shape": [3, HEIGHT, WIDTH], "mean": [0.25, 0.5, 0.0], "std": [0.5, 0.5, 1.0]}
    assert run.record["images"] == entries
    assert image_format(run) == FORM == load_data(run).format


def test_decoded_images_are_the_runs_reconstructions(
    run: Run, package: Package, tmp_path: Path
) -> None:
    trust = [package[1]]
    data = load_data(run)
    originals = FORM.denormalize(data.images("test")).permute(0, 2, 3, 1).numpy()
    (tmp_path / "images").mkdir()
    for i, original in enumerate(originals):
        Image.fromarray(original).save(tmp_path / "images" / f"{i:02}.png")
    options: dict[str, Any] = {"checkpoint": "last", "overwrite": False, "trust": trust}
    of_split, _ = encode(
        run, split="test", images=None, data=None, output=f"{tmp_path}/a.npy", **options
    )
    of_files, _ = encode(
        run,
        split="test",
        images=f"{tmp_path}/images",
        data=None,
        output=f"{tmp_path}/b.npy",
        **options,
    )
    assert np.array_equal(of_split, of_files)
    # The checkpoint and the record alone: the data is not there any more.
    moved = read_run(shutil.copytree(run.folder, tmp_path / "run"))
    moved.config["data"]["path"] = "/nowhere"
    assert decode(moved, codes=f"{tmp_path}/a.npy", output=f"{tmp_path}/out", **options) == 16
    decoded = np.stack([np.array(Image.open(p)) for p in sorted((tmp_path / "out").iterdir())])
    model = restore(run, checkpoint="last", trust=trust).model
    with torch.no_grad():
        expected = FORM.denormalize(model.decode(unpack(of_split, (12,))))
    assert np.array_equal(decoded, expected.permute(0, 2, 3, 1).numpy())
    error = np.abs(decoded.astype(float) - originals).mean()
    assert error < 0.8 * np.abs(originals - originals.mean(0)).mean()  # it has learned colours


def test_figures_show_colours(run: Run, package: Package) -> None:
    colourful = imread(run.folder / "figures" / "reconstructions.png")[..., :3]
    assert (np.ptp(colourful, axis=2) > 0.2).mean() > 0.1
    study = load(run.folder.parent)
    figure = picture_reconstructions(compare(study), trust=[package[1]]).figure
    tiles = np.asarray(figure.axes[0].images[0].get_array())
    assert tiles.shape == (8 * HEIGHT, 2 * (WIDTH + 2), 3)
    originals = FORM.denormalize(load_data(run).images("test")[:8]).permute(0, 2, 3, 1)
    assert np.array_equal(tiles[:, :WIDTH], originals.reshape(-1, WIDTH, 3).numpy())
    assert (tiles[:, WIDTH : WIDTH + 2] == 255).all()


def test_the_projector_shows_squares_in_colour(run: Run, package: Package, tmp_path: Path) -> None:
    codes = encode_projected(run, trust=[package[1]])
    labels = load_data(run).labels("test")
    assert labels is not None and codes["metadata"] == labels.tolist()
    assert codes["label_img"].shape == (16, 3, HEIGHT, HEIGHT)
    write_projected(tmp_path, codes)
    with Image.open(tmp_path / "00000" / "codes" / "sprite.png") as sprite:
        pixels = np.array(sprite.convert("RGB"))
    first = FORM.denormalize(load_data(run).images("test")[:1])[0].permute(1, 2, 0).numpy()
    assert np.abs(pixels[:HEIGHT, :WIDTH].astype(int) - first).max() <= 1


def test_other_images_are_refused(run: Run, package: Package) -> None:
    other = stelab.compose("data=mnist5k").data
    with pytest.raises(InputError, match=r"data has images of shape \(1, 28, 28\).*trained on \(3"):
        evaluate(run, checkpoint="last", split="test", data=other, trust=[package[1]])


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another shape": (lambda i: i.update(shape=[3, 8, 7]), "is of another network"),
    "no shape": (lambda i: i.pop("shape"), "run.json: images: missing a required"),
    "a bomb": (lambda i: i.update(shape=[3, 10**6, 10**6]), "run.json: images of shape"),
    "two numbers": (lambda i: i.update(shape=[8, 6]), "run.json: images: not enough values"),
    "zero": (lambda i: i.update(shape=[3, 0, 6]), "run.json: images: shape must be greater"),
    "text": (lambda i: i.update(mean="white"), "run.json: images: mean must be"),
    "no deviation": (lambda i: i.update(std=[1, 0, 1]), "run.json: images: std must be"),
    "a strange key": (lambda i: i.update(code="x"), "run.json: images: got an unexpected"),
    "two channels": (lambda i: i.update(mean=[0.5, 0.5]), "one for each of 3 channels, got 2"),
}


@pytest.mark.parametrize("kind", EDITS)
def test_what_a_record_says_is_judged(
    kind: str, run: Run, package: Package, tmp_path: Path
) -> None:
    edit, expected = EDITS[kind]
    folder = shutil.copytree(run.folder, tmp_path / "run")
    record = json.loads((folder / "run.json").read_text())
    edit(record["images"])
    (folder / "run.json").write_text(json.dumps(record))
    np.save(tmp_path / "codes.npy", np.zeros((3, 2), np.uint8))
    options: dict[str, Any] = {"checkpoint": "last", "overwrite": False, "trust": [package[1]]}
    with pytest.raises(InputError, match=expected):
        decode(read_run(folder), codes=f"{tmp_path}/codes.npy", output=f"{tmp_path}/out", **options)


def test_older_runs_are_of_mnists_images() -> None:
    old = read_run(next((Path(__file__).parents[2] / "engine/studies/old/study").iterdir()))
    assert image_format(old) == ImageFormat((1, 28, 28), 0.5, 0.5)
    assert load_data(old).format == image_format(old)
