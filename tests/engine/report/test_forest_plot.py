"""Points of groups: exact means, intervals and replicates, on an axis that shows differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from scipy import stats

from made_study import make_study
from stelab.engine.comparison import Comparison, compare
from stelab.engine.report.drawing import style
from stelab.engine.report.forest_plot import draw_forest_plot

T = stats.t.ppf(0.975, 2) / 3**0.5
TWO = [{"estimator": "none", "level": 2}, {"estimator": "identity", "level": 1}]


def names(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def drawn(comparison: Comparison) -> tuple[Axes, str]:
    picture = draw_forest_plot(comparison)
    return picture.figure.axes[0], picture.drawn.text


def values(ax: Axes, marker: str) -> list[list[float]]:
    lines = [line for line in ax.lines if line.get_marker() == marker]
    return [np.asarray(line.get_xdata()).tolist() for line in lines]


def test_best_on_top_with_intervals_and_replicates() -> None:
    ax, text = drawn(compare(make_study(TWO, spread=0.1)))  # level / 2 times 1, 1.1 and 1.2
    assert names(ax) == ["identity (baseline)", "none"]
    low, high = ax.get_ylim()
    assert low > high  # the first row is on top
    one, two = values(ax, "|")
    assert one == pytest.approx([0.5, 0.55, 0.6])
    assert two == pytest.approx([1, 1.1, 1.2])
    assert values(ax, "o")[0] == pytest.approx([0.55])
    assert values(ax, "s")[0] == pytest.approx([1.1])
    bars = [np.asarray(line.get_xdata()) for line in ax.lines if line.get_linestyle() == "-"]
    assert bars[0] == pytest.approx([0.55 - 0.05 * T, 0.55 + 0.05 * T])
    assert bars[1] == pytest.approx([1.1 - 0.1 * T, 1.1 + 0.1 * T])
    assert [t.get_text() for t in ax.texts] == ["*"]  # 0.5, 0.55, 0.6: p = 0.003
    assert text == (
        "Points are means, bars their intervals of 95 % (Student's t), small marks the values of "
        "each seed. A star: differs from its baseline; p, paired and corrected (Holm), is below "
        "0.05."
    )


def test_what_is_not_significant_has_no_star() -> None:
    ax, text = drawn(compare(make_study(TWO, seeds=2)))
    assert not ax.texts
    assert "star" not in text


def test_the_highest_is_on_top_where_higher_is_better() -> None:
    ax, _ = drawn(compare(make_study(TWO), better="higher"))
    assert names(ax) == ["none", "identity (baseline)"]


def test_one_value_has_no_bar_and_is_named() -> None:
    ax, text = drawn(compare(make_study([TWO[0], {**TWO[1], "seeds": 1}])))
    assert "No bar where n = 1: identity." in text
    alone, text = drawn(compare(make_study(TWO, seeds=1)))
    assert values(alone, "|") == [[0.5], [1]]
    assert "bars" not in text


def test_identical_groups_share_a_row() -> None:
    settings: list[dict[str, Any]] = [*TWO, {"estimator": "hardtanh_clip", "level": 1}]
    ax, text = drawn(compare(make_study(settings)))
    assert names(ax) == ["identity = hardtanh_clip\n(baseline)", "none"]
    assert "are one row (identity = hardtanh_clip: the same losses" in text


def test_what_lies_far_off_is_an_arrow_with_its_value() -> None:
    near = [{"estimator": f"e{i}", "level": 1 + i / 100} for i in range(4)]
    ax, text = drawn(compare(make_study([*near, {"estimator": "far", "level": 9}], spread=0.01)))
    low, high = ax.get_xlim()
    assert 0.49 < low < 0.5
    assert 0.52 < high < 0.55
    assert values(ax, ">") == [[1]]  # of the axes
    assert [t.get_text() for t in ax.texts] == ["4.545"]
    assert "Arrows: means beyond the axis." in text
    assert "Arrows" not in drawn(compare(make_study(near, spread=0.01)))[1]


def test_a_group_without_the_metric_has_no_row() -> None:
    study = make_study(TWO)
    study.runs.loc[study.runs["estimator"] == "none", "test/mse"] = np.nan
    ax, _ = drawn(compare(study))
    assert names(ax) == ["identity (baseline)"]


@pytest.mark.parametrize("groups", [1, 40])
def test_names_stand_beside_the_axes(groups: int) -> None:
    settings = [{"estimator": f"an_estimator_{i}", "threshold.value": i} for i in range(groups)]
    with style():
        picture = draw_forest_plot(compare(make_study(settings, spread=0.1)))
        picture.figure.draw_without_rendering()
    (ax,) = picture.figure.axes
    labels = ax.get_yticklabels()
    assert len(labels) == min(groups, 30)
    assert all(label.get_window_extent().x0 >= 0 for label in labels)
    assert ("10 more are not shown." in picture.drawn.text) == (groups == 40)
