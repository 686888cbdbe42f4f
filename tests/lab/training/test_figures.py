"""Figures of one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stelab.lab.training.figures import image_rows, run_curves


@pytest.mark.parametrize("columns", [1, 5, 12])
def test_one_row_of_images_a_label(columns: int, tmp_path: Path) -> None:
    images = torch.rand(columns, 1, 28, 28)
    rows = {"original": images, "a long name of a run": images}
    figure = image_rows(rows)
    assert [ax.get_ylabel() for ax in figure.axes] == list(rows)
    shape = (28, 28 * columns)
    assert all(np.asarray(ax.images[0].get_array()).shape == shape for ax in figure.axes)
    figure.savefig(tmp_path / "rows.png")
    for ax in figure.axes:
        assert ax.bbox.width == pytest.approx(columns * ax.bbox.height, rel=0.01)
        assert ax.yaxis.label.get_window_extent().x0 >= 0


def test_curves_start_at_epoch_1_and_skip_a_missing_split(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/mse,val/mse\n0,10,0.5,\n1,20,0.25,\n")
    (ax,) = run_curves(path).axes
    (line,) = ax.lines
    assert np.asarray(line.get_xydata()).tolist() == [[1, 0.5], [2, 0.25]]
    assert line.get_label() == "train/mse"
    assert ax.get_yscale() == "log"
