"""Columns of real digits, each through the network of a group."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from torch import Tensor

import stelab
from conftest import train
from made_study import make_study
from stelab.engine.comparison import Comparison, compare
from stelab.engine.config import build
from stelab.engine.errors import InputError
from stelab.engine.report.drawing import Drawn, style
from stelab.engine.studies import Run
from stelab.engine.studies.tables import load
from stelab.lab.training.figures import pictures
from stelab.lab.training.reconstructions import picture_reconstructions
from stelab.lab.training.restore import image_format, load_data, restore

Runs = dict[str, Run]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    outputs = tmp_path_factory.mktemp("outputs")
    names = {"identity": (1, 0), "hardtanh_clip": (1, 0), "none": (0,)}
    return {
        f"{name}-{seed}": train(outputs, f"estimator={name}", f"seed={seed}", "study=digits")
        for name, seeds in names.items()
        for seed in seeds
    }


def columns(figure: Figure) -> list[np.ndarray]:
    """Return the images of each column, ``(8, 28, 28)``."""
    (ax,) = figure.axes
    pixels = np.asarray(ax.images[0].get_array())
    assert pixels.shape[0] == 8 * 28
    tiles = [pixels[:, i : i + 28] for i in range(0, pixels.shape[1], 30)]
    return [tile.reshape(8, 28, 28) for tile in tiles]


def through(run: Run) -> np.ndarray:
    images = load_data(run).images("test")[:8]
    rows = pictures(restore(run, checkpoint="last"), {"images": images})
    return pixels(run, rows["reconstruction"])


def pixels(run: Run, images: Tensor) -> np.ndarray:
    return image_format(run).denormalize(images).squeeze(1).numpy()


def draw(comparison: Comparison, folder: Path) -> Drawn:
    with style():
        return picture_reconstructions(comparison).save(folder)


def refused(comparison: Comparison, folder: Path) -> str:
    """Return why there are no reconstructions."""
    with pytest.raises(InputError) as error:
        draw(comparison, folder)
    return str(error.value)


def test_a_column_is_a_groups_first_replicate(runs: Runs) -> None:
    comparison = compare(load(runs["none-0"].folder.parent))
    with style():
        picture = picture_reconstructions(comparison)
        picture.figure.draw_without_rendering()
    labels = picture.figure.axes[0].get_xticklabels()
    assert all(label.get_window_extent().y1 < picture.figure.bbox.y1 for label in labels)
    names = [label.get_text() for label in labels]
    found = dict(zip(names, columns(picture.figure), strict=True))
    images = load_data(runs["none-0"]).images("test")[:8]
    assert names[0] == "original"
    assert np.array_equal(found["original"], pixels(runs["none-0"], images))
    assert np.array_equal(found["none"], through(runs["none-0"]))
    twins = found["identity = hardtanh_clip\n(baseline)"]
    assert np.array_equal(twins, through(runs["identity-0"]))
    assert len(found) == 3
    assert "best first (seed=0)." in picture.drawn.text
    assert "one column (identity = hardtanh_clip: clip_fraction 0 in every" in picture.drawn.text


def test_two_drawings_are_the_same_bytes(runs: Runs, tmp_path: Path) -> None:
    comparison = compare(load(runs["none-0"].folder.parent))
    drawn = draw(comparison, tmp_path / "one")
    assert drawn.name == "reconstructions"
    draw(comparison, tmp_path / "two")
    for name in ("reconstructions.svg", "reconstructions.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_group_without_a_checkpoint_is_left_out_and_told(runs: Runs) -> None:
    checkpoint = runs["none-0"].folder / "checkpoints" / "last.ckpt"
    moved = checkpoint.rename(checkpoint.with_suffix(".away"))
    try:
        with style():
            picture = picture_reconstructions(compare(load(runs["none-0"].folder.parent)))
    finally:
        moved.rename(checkpoint)
    assert picture.drawn.missing == (f"No reconstructions of none: {checkpoint} does not exist.",)
    names = [label.get_text() for label in picture.figure.axes[0].get_xticklabels()]
    assert names == ["original", "identity = hardtanh_clip\n(baseline)"]


def test_a_lost_run_is_a_reason_too(tmp_path: Path) -> None:
    why = refused(compare(make_study([{"estimator": "identity"}])), tmp_path)
    reason = "run-0-s0 is not a run's folder: there is no run.json in it."
    assert why == f"No reconstructions: {reason}"


def test_a_group_of_images_of_another_shape_is_left_out_and_told(
    runs: Runs, tmp_path: Path
) -> None:
    study = shutil.copytree(runs["none-0"].folder.parent, tmp_path / "digits")
    path = study / runs["none-0"].folder.name / "run.json"
    record = json.loads(path.read_text())
    record["images"]["shape"] = [1, 8, 8]
    path.write_text(json.dumps(record))
    with style():
        picture = picture_reconstructions(compare(load(study)))
    (why,) = picture.drawn.missing
    assert why == "No reconstructions of none: its images have another shape, (1, 8, 8)."


def test_images_that_cannot_be_had_and_tasks_that_make_none_are_reasons(
    runs: Runs, tmp_path: Path
) -> None:
    gone = stelab.compose("data=npz", f"data.path={tmp_path}/gone.npz").data
    with pytest.raises(InputError, match=r"^No reconstructions: .*gone.npz cannot be read: "):
        picture_reconstructions(compare(load(runs["none-0"].folder.parent)), gone)
    train(tmp_path, "task=classify", "model=binary_mlp", "model.bits=8")
    why = refused(compare(load(tmp_path / "debug")), tmp_path)
    assert why == "No reconstructions: Classify makes no images."


def test_different_data_have_no_image_in_common(tmp_path: Path) -> None:
    study = make_study([{"data": "mnist"}, {"data": "kmnist"}])
    assert refused(compare(study), tmp_path) == (
        "No reconstructions: groups of different data (kmnist, mnist) share no image."
    )


def test_data_may_have_moved(runs: Runs, tmp_path: Path, mnist_root: Path) -> None:
    comparison = compare(load(runs["none-0"].folder.parent))
    other = stelab.compose("data=mnist", f"data.root={mnist_root}").data
    with style():
        picture = picture_reconstructions(comparison, other)
    original, *_ = columns(picture.figure)
    images = build(other).images("test")[:8]
    assert np.array_equal(original, pixels(runs["none-0"], images))
