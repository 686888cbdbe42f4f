"""The figures of a comparison as files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from made_study import make_study
from stelab.engine.comparison import compare
from stelab.engine.report.curves import draw_curves, draw_panels
from stelab.engine.report.drawing import Drawn, style
from stelab.engine.report.forest_plot import draw_forest_plot
from stelab.engine.report.group_styles import all_styles, shown_styles
from stelab.engine.report.scatters import draw_slices, draw_wall_clock
from stelab.engine.report.study_figures import draw_figures
from stelab.engine.terminal import visible

GRID = [
    {"estimator": name, "threshold.value": value, "optimizer.lr": 10.0 ** -(3 * i + j)}
    for i, name in enumerate(("identity", "none", "a & b <$c$>"))
    for j, value in enumerate((0.0, 0.5))
]
BY = ["estimator", "threshold.value"]
END = ("png", "svg")
NAMES = ["curves", "points", "heatmap", "code_health", "wall_clock", "slices"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Drawn]]:
    folder = tmp_path_factory.mktemp("figures") / "new"
    return folder, draw_figures(compare(make_study(GRID), by=BY), folder, log_scale=True)


def test_each_figure_is_an_svg_and_a_png(drawn: tuple[Path, list[Drawn]]) -> None:
    folder, figures = drawn
    assert [figure.name for figure in figures] == NAMES
    assert sorted(contents(folder)) == sorted(f"{n}.{e}" for n in NAMES for e in ("png", "svg"))
    for figure in figures:
        assert figure.title
        assert figure.text and figure.title not in figure.text
        assert "  " not in figure.text
        assert ElementTree.parse(folder / f"{figure.name}.svg").getroot().tag.endswith("svg")


def test_curves_are_the_largest_and_the_others_as_wide_as_a_column(
    drawn: tuple[Path, list[Drawn]],
) -> None:
    folder, figures = drawn
    areas = {}
    for figure in figures:
        with Image.open(folder / f"{figure.name}.png") as picture:
            inches = 7.16 if figure.name == "curves" else 3.5
            assert picture.width == pytest.approx(300 * inches, abs=1)
            assert set(picture.info) == {"dpi"}
            areas[figure.name] = picture.width * picture.height
    assert max(areas, key=lambda name: areas[name]) == "curves"


def test_a_group_has_one_colour_in_all_figures() -> None:
    """Also where a figure leaves some of them out."""
    settings = [{"estimator": f"e{i:02}", "optimizer.lr": 0.1 * i} for i in range(9)]
    comparison = compare(make_study(settings, seeds=1), by=["estimator"])
    expected = {line.label: line.colour for line in all_styles(comparison)}
    assert len(set(expected.values())) == 7
    pictures = [draw_wall_clock(comparison), draw_panels(comparison, "code_health")]
    curves, slices = draw_curves(comparison, log_scale=False), draw_slices(comparison)
    for picture in (*pictures, curves):
        assert picture
        (legend,) = picture.figure.legends
        names = [text.get_text() for text in legend.get_texts()]
        handles = [
            handle.get_color() for handle in legend.legend_handles if isinstance(handle, Line2D)
        ]
        assert dict(zip(names, handles, strict=True)) == expected
    ax = draw_forest_plot(comparison).figure.axes[0]
    means = [line for line in ax.lines if line.get_markersize() == 4]
    assert [line.get_color() for line in means] == [*expected.values()]
    assert slices
    dots = {
        (x, line.get_color())
        for line in slices.figure.axes[0].lines
        if line.get_marker() == "o"
        for x in np.asarray(line.get_xdata())
    }
    assert dots == {(0.1 * i, expected[f"e{i:02}"]) for i in range(9)}


def test_looks_do_not_depend_on_what_a_figure_leaves_out() -> None:
    settings = [{"estimator": f"e{i:02}"} for i in range(29)]
    comparison = compare(make_study([*settings, {"estimator": "identity"}], seeds=1))
    assert set(shown_styles(comparison)) < set(all_styles(comparison))


@pytest.mark.parametrize(
    "text", ["$x^{", r"$\frac{1}{2}$", "a & <b>", "\x1b[31mred", "\u1b27 \u0628"]
)
def test_a_text_of_a_run_is_drawn_as_it_stands(text: str, tmp_path: Path) -> None:
    settings = [
        {"estimator": name, text: float(i), "optimizer.lr": 0.1 * i}
        for i, name in enumerate((text, "b", "c", "d", "e", "f"))
    ]
    comparison = compare(make_study(settings, seeds=2), by=["estimator", text])
    for figure in draw_figures(comparison, tmp_path, log_scale=True):
        ElementTree.parse(tmp_path / f"{figure.name}.svg")
    with style():
        curves = draw_curves(comparison, log_scale=False)
        assert curves
        names = [each.get_text() for each in curves.figure.legends[0].get_texts()]
    assert f"{visible(text)}, {visible(text)}=0" in names


def test_no_text_is_smaller_than_7_points(drawn: tuple[Path, list[Drawn]]) -> None:
    folder, figures = drawn
    for figure in figures:  # glyphs of 100 units, scaled
        svg = (folder / f"{figure.name}.svg").read_text()
        scales = {float(scale) for scale in re.findall(r"scale\(([\d.]+) -", svg)}
        assert min(scales) == 0.07


@pytest.mark.parametrize("groups", [1, 14, 40])
def test_no_text_is_cut_off_and_none_hides_another(groups: int) -> None:
    names = [f"an_estimator_with_quite_a_long_name_{i}" for i in range(groups)]
    settings = [
        {"estimator": name, "threshold.value": i / 7, "optimizer.lr": 0.01 * (i + 1)}
        for i, name in enumerate(names)
    ]
    comparison = compare(make_study(settings, spread=0.1), by=BY if groups > 1 else None)
    with style():
        pictures = [
            draw_curves(comparison, log_scale=True),
            draw_panels(comparison, "code_health"),
            draw_forest_plot(comparison),
            draw_wall_clock(comparison),
            draw_slices(comparison),
        ]
        for picture in filter(None, pictures):
            figure = picture.figure
            figure.draw_without_rendering()
            boxes = [text.get_window_extent() for text in seen(figure)]
            assert len(boxes) > 4
            for i, box in enumerate(boxes):
                assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
                assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
                assert not any(overlap(box, other) for other in boxes[:i])


def seen(figure: Figure) -> list[Text]:
    """Return the texts of a figure, without ticks beyond its axes."""
    texts = [text for legend in figure.legends for text in legend.get_texts()]
    for ax in figure.axes:
        texts += [*ax.texts, *(t for t in ax.findobj(Text) if t.get_text() == ax.get_title("left"))]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            texts += [axis.label, *(tick.label1 for tick in ticks)]
    return [text for text in texts if text.get_visible() and text.get_text()]


def overlap(one: Bbox, other: Bbox) -> bool:
    """Tell whether texts hide each other; the boxes of lines of a legend may touch."""
    both = Bbox.intersection(one, other)
    return both is not None and min(both.width, both.height) > 2


def test_ids_do_not_clash_in_one_page(drawn: tuple[Path, list[Drawn]]) -> None:
    folder, figures = drawn
    page = "".join((folder / f"{figure.name}.svg").read_text() for figure in figures)
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    references = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page)
    assert {one or other for one, other in references} <= set(ids)


def test_the_same_tables_give_the_same_bytes(
    drawn: tuple[Path, list[Drawn]], tmp_path: Path
) -> None:
    study = make_study(GRID)
    shuffled = replace(
        study,
        runs=study.runs.sample(frac=1, random_state=0),
        curves=study.curves.sample(frac=1, random_state=1),
    )
    figures = draw_figures(compare(shuffled, by=BY), tmp_path, log_scale=True)
    assert figures == drawn[1]
    assert contents(tmp_path) == contents(drawn[0])
    assert not any(re.search(rb"20\d\d-\d\d-\d\d", svg) for svg in contents(tmp_path).values())


def settings() -> dict[str, object]:
    return {key: value for key, value in mpl.rcParams.items() if key != "backend"}


def test_matplotlib_is_left_as_it_was(tmp_path: Path) -> None:
    before = settings()
    draw_figures(compare(make_study([{"estimator": "identity"}])), tmp_path, log_scale=False)
    assert settings() == before


def test_one_group_and_another_metric_have_fewer_figures(tmp_path: Path) -> None:
    comparison = compare(make_study([{"estimator": "identity"}]), metrics=["timings.seconds"])
    figures = draw_figures(comparison, tmp_path, log_scale=True)
    assert [figure.name for figure in figures] == ["points", "code_health"]


def test_figures_of_an_earlier_comparison_are_removed(tmp_path: Path) -> None:
    draw_figures(compare(make_study(GRID), by=BY), tmp_path, log_scale=True)
    for name in ("reconstructions.png", "reconstructions.svg", "mine.png", "curves.pdf"):
        (tmp_path / name).touch()
    draw_figures(compare(make_study([{"estimator": "identity"}])), tmp_path, log_scale=True)
    drawn = ("curves", "points", "code_health", "wall_clock")
    kept = {f"{name}.{suffix}" for name in drawn for suffix in END}
    assert set(contents(tmp_path)) == {*kept, "mine.png", "curves.pdf"}
