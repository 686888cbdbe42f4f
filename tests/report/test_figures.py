"""Figures that a sweep draws."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from stelab.report.figures import image_rows, labels, loss_curves
from stelab.studies import Run


def test_labels_leave_out_what_all_share(trained: Run) -> None:
    def named(name: str, seed: int) -> Run:
        config = {**trained.config, "seed": seed}
        return dataclasses.replace(trained, folder=Path(name), config=config)

    one, two = named("identity-fixed0-s0-aaaaaaaa", 0), named("none-fixed0-s0-bbbbbbbb", 0)
    assert labels([one, two]) == ["identity-fixed0", "none-fixed0"]
    other = named("identity-fixed0-s1-cccccccc", 1)
    assert labels([one, other]) == ["identity-fixed0-s0", "identity-fixed0-s1"]
    twin = named("identity-fixed0-s0-dddddddd", 0)  # differs in a key the id does not show
    assert labels([one, twin]) == [one.name, twin.name]


def test_one_row_of_images_a_label(tmp_path: Path) -> None:
    rows = {"original": torch.rand(5, 1, 28, 28), "a long name of a run": torch.rand(5, 1, 28, 28)}
    figure = image_rows(rows)
    assert [ax.get_ylabel() for ax in figure.axes] == list(rows)
    assert all(np.asarray(ax.images[0].get_array()).shape == (28, 140) for ax in figure.axes)
    figure.savefig(tmp_path / "rows.png")


def test_curves_start_at_epoch_1_and_skip_a_missing_split(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/mse\n0,10,0.5\n1,20,0.25\n")
    (ax,) = loss_curves({"run": path}).axes
    (line,) = ax.lines
    assert np.asarray(line.get_xydata()).tolist() == [[1, 0.5], [2, 0.25]]


def test_the_legend_of_many_runs_hides_no_curve(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/mse,val/mse\n0,10,0.5,0.6\n1,20,0.25,0.3\n")
    for runs, inside in ((8, True), (40, False)):
        figure = loss_curves({f"run {i}": path for i in range(runs)})
        figure.savefig(tmp_path / "curves.png")
        assert (figure.axes[-1].get_legend() is not None) == inside
        assert len(figure.legends) == (not inside)
