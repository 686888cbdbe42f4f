"""Curves over epochs: exact means and bands, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from scipy import stats

from made_study import make_study
from stelab.engine.comparison import compare
from stelab.engine.report.curves import draw_curves, draw_panels
from stelab.engine.report.drawing import Picture, style

T = stats.t.ppf(0.975, 2) / 3**0.5  # of three values with standard deviation 1
TWO: list[dict[str, Any]] = [{"estimator": "identity"}, {"estimator": "none"}]


def curves(settings: list[dict[str, Any]], **options: Any) -> Picture:
    picture = draw_curves(compare(make_study(settings, **options)), log_scale=False)
    assert picture is not None
    return picture


def band(ax: Axes, i: int) -> np.ndarray:
    """Return epoch, low and high of a band's polygon."""
    corners = np.asarray(ax.collections[i].get_paths()[0].vertices)
    epochs = np.unique(corners[:, 0])
    ends = [corners[corners[:, 0] == epoch, 1] for epoch in epochs]
    return np.array([[e, v.min(), v.max()] for e, v in zip(epochs, ends, strict=True)])


def legend(picture: Picture) -> list[str]:
    (found,) = picture.figure.legends
    return [text.get_text() for text in found.get_texts()]


def test_a_line_ends_with_the_first_of_its_runs_and_it_is_told() -> None:
    study = make_study(TWO)
    curves = study.curves
    stopped = (curves["run"] == "run-1-s2") & (curves["epoch"] > 2)
    picture = draw_curves(compare(replace(study, curves=curves[~stopped])), log_scale=False)
    assert picture is not None
    ends = [np.asarray(line.get_xdata())[-1] for line in picture.figure.axes[1].lines]
    assert ends == [4, 2]
    assert "A line ends with the first of its runs." in picture.drawn.text


def test_lines_are_means_and_bands_their_intervals() -> None:
    picture = curves(TWO, spread=0.1)
    train, val = picture.figure.axes
    assert [train.get_title("left"), val.get_title("left")] == ["train/mse", "val/mse"]
    epoch = np.arange(1, 5)
    for ax, factor in ((train, 1), (val, 2)):
        for i, level in enumerate((1, 2)):  # values 1, 1.1 and 1.2 times the level
            mean, half = factor * level * 1.1 / epoch, factor * level * 0.1 * T / epoch
            line = np.asarray(ax.lines[i].get_xydata())
            assert line == pytest.approx(np.column_stack((epoch, mean)))
            expected = np.column_stack((epoch, mean - half, mean + half))
            assert band(ax, i) == pytest.approx(expected)
            assert ax.lines[i].get_color() == ("#0072B2", "#D55E00")[i]
    assert legend(picture) == ["identity (baseline)", "none"]
    assert picture.drawn.title == "train/mse, val/mse over epochs"
    assert picture.drawn.text == (
        "Each line is the mean over seed (n = 3); the lowest test/mse comes first. Bands are its "
        "intervals of 95 % (Student's t), pointwise: for each epoch by itself."
    )


def test_identical_groups_are_one_line_that_says_so() -> None:
    settings: list[dict[str, Any]] = [
        {**TWO[0], "level": 1},
        {"estimator": "hardtanh_clip", "level": 1},
        TWO[1],
    ]
    picture = curves(settings)
    assert all(len(ax.lines) == len(ax.collections) == 2 for ax in picture.figure.axes)
    assert legend(picture) == ["identity = hardtanh_clip (baseline)", "none"]
    assert "identity = hardtanh_clip: the same losses and codes" in picture.drawn.text


def test_one_replicate_has_no_band() -> None:
    picture = curves([TWO[0], {**TWO[1], "seeds": 1}])
    assert [len(ax.lines) for ax in picture.figure.axes] == [2, 2]
    assert [len(ax.collections) for ax in picture.figure.axes] == [1, 1]
    assert "(n = 1 to 3)" in picture.drawn.text
    assert "No band where n = 1: none." in picture.drawn.text
    alone = curves([{"estimator": "identity"}], seeds=1)
    assert not any(ax.collections for ax in alone.figure.axes)
    assert "Bands are" not in alone.drawn.text


def test_a_band_that_would_hide_all_others_is_cut_off() -> None:
    steady = [{"estimator": f"e{i}"} for i in range(4)]
    study = make_study([*steady, {"estimator": "wild", "level": 5}], spread=0.01)
    wild = study.curves["run"].str.startswith("run-4-s2")
    study.curves.loc[wild, ["train/mse", "val/mse"]] *= 100
    picture = draw_curves(compare(study), log_scale=False)
    assert picture is not None
    low, high = picture.figure.axes[0].get_ylim()
    assert band(picture.figure.axes[0], 4)[0, 2] > high
    assert low < 0 < 340 < high < 1000  # the wild line's mean is 343 at most
    assert "Bands end where they leave the axes." in picture.drawn.text


@pytest.mark.parametrize("log_scale", [False, True])
def test_the_axis_is_logarithmic_on_request(log_scale: bool) -> None:
    picture = draw_curves(compare(make_study(TWO)), log_scale=log_scale)
    assert picture is not None
    assert {ax.get_yscale() for ax in picture.figure.axes} == {"log" if log_scale else "linear"}
    assert ("logarithmic" in picture.drawn.text) == log_scale
    low, high = picture.figure.axes[0].get_ylim()
    assert low < 0.5
    assert high > 8


def test_the_axis_is_linear_where_a_logarithm_has_no_value() -> None:
    comparison = compare(make_study(TWO), metrics=["code/dead_bits"])
    picture = draw_curves(comparison, log_scale=True)
    assert picture is not None
    (ax,) = picture.figure.axes
    assert ax.get_title("left") == "code/dead_bits"
    assert ax.get_yscale() == "linear"
    assert "logarithmic" not in picture.drawn.text


def test_a_split_without_data_is_left_out() -> None:
    study = make_study(TWO)
    comparison = compare(replace(study, curves=study.curves.assign(**{"val/mse": np.nan})))
    picture = draw_curves(comparison, log_scale=True)
    assert picture is not None
    assert [ax.get_title("left") for ax in picture.figure.axes] == ["train/mse"]


def test_no_curves_no_picture() -> None:
    comparison = compare(make_study(TWO), metrics=["timings.seconds"])
    assert draw_curves(comparison, log_scale=True) is None
    bare = make_study(TWO)
    codeless = bare.curves[["study", "run", "epoch", "step", "train/mse", "val/mse"]]
    assert draw_panels(compare(replace(bare, curves=codeless)), "code_health") is None


def test_a_group_without_the_metric_is_named() -> None:
    study = make_study(TWO)
    lost = study.curves["run"].str.startswith("run-1")
    study.curves.loc[lost, ["train/mse", "val/mse"]] = np.nan
    picture = draw_curves(compare(study), log_scale=True)
    assert picture is not None
    assert legend(picture) == ["identity (baseline)", "none"]
    assert "Without values: none." in picture.drawn.text


@pytest.mark.parametrize("groups", [1, 30])
def test_the_legend_lies_below_the_axes(groups: int) -> None:
    names = [f"an_estimator_with_a_long_name_{i}" for i in range(groups)]
    with style():
        picture = curves([{"estimator": name} for name in names])
        picture.figure.draw_without_rendering()
    (found,) = picture.figure.legends
    box = found.get_window_extent()
    figure = picture.figure.bbox
    assert len(found.get_texts()) == min(groups, 12)
    assert figure.x0 <= box.x0 < box.x1 <= figure.x1
    assert figure.y0 <= box.y0
    for ax in picture.figure.axes:
        assert box.y1 <= ax.xaxis.label.get_window_extent().y0


def test_code_health_starts_where_it_is_known() -> None:
    picture = draw_panels(compare(make_study(TWO)), "code_health")
    assert picture is not None
    dead, entropy, flips = picture.figure.axes
    assert np.asarray(dead.lines[0].get_ydata()).tolist() == [0, 0, 0, 0]
    assert np.asarray(entropy.lines[1].get_ydata()).tolist() == [5, 6, 7, 8]
    assert np.asarray(flips.lines[0].get_xydata()) == pytest.approx(
        np.array([[2, 0.1], [3, 0.2 / 3], [4, 0.05]])
    )
