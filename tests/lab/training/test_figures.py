"""Figures of one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stelab.lab.training.figures import image_rows, run_curves


@pytest.mark.parametrize("columns", [1, 5, 12])
@pytest.mark.parametrize(("channels", "width"), [(1, 28), (3, 40)])
def test_one_row_of_images_a_label(channels: int, width: int, columns: int, tmp_path: Path) -> None:
    images = torch.randint(256, (columns, channels, 28, width)).byte()
    rows = {"original": images, "a long name of a run": images}
    figure = image_rows(rows)
    assert [ax.get_ylabel() for ax in figure.axes] == list(rows)
    strip = torch.cat([*images], dim=2).permute(1, 2, 0).squeeze(2).numpy()
    figure.savefig(tmp_path / "rows.png")
    for ax in figure.axes:
        assert np.array_equal(np.asarray(ax.images[0].get_array()), strip)
        assert ax.bbox.width == pytest.approx(columns * width / 28 * ax.bbox.height, rel=0.01)
        assert ax.yaxis.label.get_window_extent().x0 >= 0


def test_curves_start_at_epoch_1_and_skip_a_missing_split(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/mse,val/mse\n0,10,0.5,\n1,20,0.25,\n")
    (ax,) = run_curves(path, "mse", better="lower").axes
    (line,) = ax.lines
    assert np.asarray(line.get_xydata()).tolist() == [[1, 0.5], [2, 0.25]]
    assert line.get_label() == "train/mse"
    assert ax.get_yscale() == "log"
    (ax,) = run_curves(path, "mse", better="higher").axes
    assert ax.get_yscale() == "linear"
