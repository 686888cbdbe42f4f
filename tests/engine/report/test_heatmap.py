"""A metric over two settings: exact cells, empty ones visible."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from made_study import make_study
from stelab.engine.comparison import Comparison, compare
from stelab.engine.report.drawing import Picture, style
from stelab.engine.report.heatmap import draw_heatmap

THREE: list[dict[str, Any]] = [
    {"estimator": "none", "threshold.value": 10.0, "level": 4},
    {"estimator": "identity", "threshold.value": 10.0, "level": 2, "seeds": 1},
    {"estimator": "identity", "threshold.value": 9.0, "level": 1},
]


def drawn(comparison: Comparison) -> Picture:
    picture = draw_heatmap(comparison)
    assert picture is not None
    return picture


def cells(ax: Axes) -> dict[tuple[float, float], str]:
    """Return the texts by column and row, from the upper left."""
    return {(t.get_position()[0] - 0.5, t.get_position()[1] - 0.5): t.get_text() for t in ax.texts}


def brightness(ax: Axes) -> dict[tuple[float, float], float]:
    patches = [p for p in ax.patches if isinstance(p, Rectangle) and p.get_fill()]
    return {p.get_xy(): sum(to_rgb(p.get_facecolor())) for p in patches}


def test_cells_have_mean_and_n_and_missing_ones_are_hatched() -> None:
    picture = drawn(compare(make_study(THREE)))
    (ax,) = picture.figure.axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["9", "10"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["identity", "none"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("threshold.value", "estimator")
    assert ax.get_title("left") == "test/mse"
    assert cells(ax) == {(0, 0): "1.000\nn = 3", (1, 0): "1.000\nn = 1", (1, 1): "4.000\nn = 3"}
    hatched = [p for p in ax.patches if isinstance(p, Rectangle) and p.get_hatch()]
    assert [patch.get_xy() for patch in hatched] == [(0, 1)]
    assert picture.drawn.text == (
        "Each cell has the mean over seed and the number n of its values. The darker a cell, the "
        "better. Hatched cells have no value (1)."
    )


def test_the_darker_the_better() -> None:
    low = brightness(drawn(compare(make_study(THREE))).figure.axes[0])
    high = brightness(drawn(compare(make_study(THREE), better="higher")).figure.axes[0])
    assert low[0, 0] == low[1, 0] < low[1, 1]
    assert high[0, 0] > high[1, 1]


def test_further_settings_have_a_panel_each() -> None:
    settings: list[dict[str, Any]] = [
        {**setting, "loss.reduction": reduction, "level": setting["level"] * factor}
        for reduction, factor in (("mean", 1), ("sum", 10))
        for setting in THREE
    ]
    by = ["estimator", "threshold.value", "loss.reduction"]
    picture = drawn(compare(make_study(settings), by=by))
    one, two = picture.figure.axes
    assert [ax.get_title("left") for ax in (one, two)] == [
        "loss.reduction=mean",
        "loss.reduction=sum",
    ]
    assert cells(two)[0, 0] == "10.00\nn = 3"
    assert max(brightness(one).values()) < max(brightness(two).values())  # one scale of colours
    assert "a panel for each loss.reduction" in picture.drawn.text


def test_a_setting_that_some_do_not_have_comes_last() -> None:
    settings = [*THREE, {"estimator": "identity", "level": 3}]
    (ax,) = drawn(compare(make_study(settings))).figure.axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["9", "10", "–"]
    assert cells(ax)[2, 0] == "3.000\nn = 3"


@pytest.mark.parametrize("columns", [1, 2, 11])
def test_long_names_and_titles_stand_in_the_figure_and_apart(columns: int) -> None:
    settings = [
        {"estimator": "e" * 100, "model": f"a_network_{j}", "loss.reduction": "of_long_words " * 4}
        for j in range(columns)
    ] + [{"estimator": "identity", "model": "mlp", "loss.reduction": "sum"}]
    by = ["estimator", "model", "loss.reduction"]
    with style():
        picture = drawn(compare(make_study(settings, seeds=1), by=by))
        picture.figure.draw_without_rendering()
    figure = picture.figure.bbox
    for ax in picture.figure.axes:
        across = [label.get_window_extent() for label in ax.get_xticklabels()]
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(across))
        down = [label.get_window_extent() for label in ax.get_yticklabels()]
        assert all(a.y0 > b.y1 for a, b in itertools.pairwise(down))
        texts = [*ax.get_xticklabels(), *ax.get_yticklabels(), *ax.texts, ax.yaxis.label]
        (title,) = [t for t in ax.findobj(Text) if t.get_text() == ax.get_title("left")]
        for box in [text.get_window_extent() for text in (*texts, title) if text.get_visible()]:
            assert figure.x0 <= box.x0 and box.x1 <= figure.x1
            assert figure.y0 <= box.y0 and box.y1 <= figure.y1


def test_there_is_none_for_one_setting_or_a_continuous_one() -> None:
    assert draw_heatmap(compare(make_study([{"estimator": "identity"}]))) is None
    assert draw_heatmap(compare(make_study(THREE), by=["estimator"])) is None
    many = [{"estimator": "identity", "optimizer.lr": i / 100} for i in range(13)]
    assert draw_heatmap(compare(make_study(many), by=["estimator", "optimizer.lr"])) is None
