"""The report in a real browser: sorted, filtered, on a phone, in the dark, without scripts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from browser import Chromium
from browser import chromium as chromium
from conftest import REPOSITORY, train
from stelab.engine.comparison import Comparison, compare
from stelab.engine.report.page.write import write_report
from stelab.engine.report.study_figures import draw_figures
from stelab.engine.studies.tables import load

ESTIMATORS = ("identity", "hardtanh_clip", "none")
EVIL = "ValueError: <script>document.title = 'taken'</script>"

COLOURS = "(each) => ['color', 'backgroundColor'].map((name) => getComputedStyle(each)[name])"

# Of each text element, the contrast of its colour and what is behind it, by WCAG 2.
CONTRASTS = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b]
    .map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    const colour = parse(getComputedStyle(element).backgroundColor);
    return colour[3] === 0 && element.parentElement ? behind(element.parentElement) : colour;
  };
  return [...document.querySelectorAll("h1, h2, p, li, a, th, td, caption, code, label, .mark")]
    .map((element) => [parse(getComputedStyle(element).color), behind(element)])
    .map((colours) => colours.map(luminance).sort((a, b) => b - a))
    .map(([light, dark]) => (light + 0.05) / (dark + 0.05));
}"""


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Three estimators, three seeds each, on real digits; and a run that failed."""
    outputs = tmp_path_factory.mktemp("outputs")
    for estimator in ESTIMATORS:
        for seed in (0, 1, 2):
            run = train(outputs, "study=small", f"estimator={estimator}", f"seed={seed}")
    failed = run.folder.with_name("failed-run")
    shutil.copytree(run.folder, failed)
    record = {**run.record, "status": "failed", "error": EVIL}
    (failed / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return compare(load(outputs / "small"), metrics=("test/mse", "code/entropy"))


@pytest.fixture(scope="module")
def url(comparison: Comparison) -> str:
    """Where the report of it is."""
    folder = Path(comparison.runs["folder"].iloc[0]).parent / "comparison"
    comparison.write(folder)
    figures = draw_figures(comparison, folder / "figures", log_scale=True)
    report = write_report(comparison, folder, figures, command="stelab compare study=small")
    return report.as_uri()


def results(page: Page) -> Locator:
    return page.get_by_role("table", name="test/mse of 3 groups")


def column(table: Locator, number: int) -> list[str]:
    """Return the texts of a column's cells, from top to bottom."""
    return table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()


def test_a_request_to_elsewhere_fails_a_test(chromium: Chromium, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text('<img src="http://example.org/x.png">')
    with pytest.raises(AssertionError, match="example.org"):
        with chromium.open((tmp_path / "page.html").as_uri()):
            pass


def test_it_says_what_the_table_says_and_asks_for_nothing(
    chromium: Chromium, url: str, comparison: Comparison
) -> None:
    with chromium.open(url) as tab:
        page = tab.page
        expect(page).to_have_title("small: comparison by test/mse")
        expect(page.get_by_role("heading", level=1)).to_have_text("small")
        best = comparison.table.iloc[0]
        headline = page.locator(".headline").inner_text()
        assert headline.startswith("Lowest test/mse: identity = hardtanh_clip: ")
        assert f"{best['mean']:#.4g} [" in headline and headline.endswith("n = 3")
        expect(results(page).locator("tbody tr")).to_have_count(3)
        names = [each.get_attribute("aria-label") or "" for each in page.get_by_role("img").all()]
        assert len(names) == page.locator("figure").count() > 2
        titles = page.locator("figcaption strong").all_inner_texts()
        assert names == titles
        failure = page.get_by_role("row", name="failed-run")
        expect(failure.filter(has_text=EVIL)).to_have_count(1)
        assert tab.requests == [url]


def test_the_links_lead_to_what_is_there(chromium: Chromium, url: str) -> None:
    with chromium.open(url) as tab:
        hrefs = tab.page.evaluate("[...document.links].map((link) => link.href)")
        assert sum(href.endswith(".svg") for href in hrefs) > 2
        for href in set(hrefs):
            address, _, anchor = href.removeprefix("file://").partition("#")
            assert Path(address).exists()
            assert not anchor or tab.page.locator(f"#{anchor}").count() == 1


def test_a_click_on_a_column_sorts_by_it(chromium: Chromium, url: str) -> None:
    with chromium.open(url) as tab:
        table = results(tab.page)
        header = table.get_by_role("columnheader", name="d_z")
        effects = column(table, 9)
        assert effects[:2] == ["–", "–"] and effects[2].startswith("+")
        header.get_by_role("button", name="d_z", exact=True).click()
        expect(header).to_have_attribute("aria-sort", "ascending")
        assert column(table, 1) == ["none", "identity", "hardtanh_clip"]  # missing ones are last
        header.get_by_role("button").click()
        expect(header).to_have_attribute("aria-sort", "descending")
        assert column(table, 1) == ["none", "identity", "hardtanh_clip"]
        mean = table.get_by_role("columnheader", name="mean")
        mean.get_by_role("button").click()
        mean.get_by_role("button").click()
        means = [float(text) for text in column(table, 4)]
        assert means == sorted(means, reverse=True) and means[0] > means[-1]
        assert header.get_attribute("aria-sort") is None


def test_the_keyboard_sorts_numbers_as_numbers(
    chromium: Chromium, url: str, comparison: Comparison
) -> None:
    with chromium.open(url) as tab:
        runs = tab.page.locator("#runs")
        seconds = runs.get_by_role("columnheader", name="seconds")
        tab.page.keyboard.press("Tab")
        for _ in range(200):
            if seconds.get_by_role("button").evaluate("(each) => each === document.activeElement"):
                break
            tab.page.keyboard.press("Tab")
        tab.page.keyboard.press("Enter")
        expect(seconds).to_have_attribute("aria-sort", "ascending")
        first = seconds.evaluate("(each) => each.cellIndex") + 1
        ascending = [float(text) for text in column(runs, first)]
        assert ascending == sorted(ascending)
        tab.page.keyboard.press("Space")
        expect(seconds).to_have_attribute("aria-sort", "descending")
        assert [float(text) for text in column(runs, first)] == ascending[::-1]


def test_words_filter_rows_and_the_count_is_told(chromium: Chromium, url: str) -> None:
    with chromium.open(url) as tab:
        runs = tab.page.locator("#runs")
        form = tab.page.locator("#runs-filter")
        field, count = form.get_by_label("Filter"), form.get_by_role("status")
        expect(count).to_have_text("10 of 10 rows")
        field.fill("IDENTITY compared")
        expect(count).to_have_text("3 of 10 rows")
        expect(runs.locator("tbody tr:visible")).to_have_count(3)
        runs.get_by_role("columnheader", name="seed").get_by_role("button").click()
        expect(runs.locator("tbody tr:visible")).to_have_count(3)
        field.fill("nothing of the kind")
        expect(count).to_have_text("0 of 10 rows")
        field.fill("")
        expect(runs.locator("tbody tr:visible")).to_have_count(10)


EXAMPLE = REPOSITORY / "docs" / "example-report" / "report.html"


def test_verdicts_are_seen_at_1280_pixels_and_curves_are_the_largest_figure(
    chromium: Chromium, url: str
) -> None:
    for address in (url, EXAMPLE.as_uri()):
        with chromium.open(address, viewport={"width": 1280, "height": 800}) as tab:
            table = tab.page.locator("table[id^=results-]").first
            header = table.get_by_role("columnheader", name="verdict")
            cells = [header, *table.locator("tbody tr > :has(.mark)").all()]
            assert len(cells) > 1
            for cell in cells:
                box = cell.bounding_box()
                assert box and 0 <= box["x"] and box["x"] + box["width"] <= 1280
            boxes = [svg.bounding_box() for svg in tab.page.locator("figure svg").all()]
            curves, *others = [box["width"] * box["height"] for box in boxes if box]
            assert curves > max(others)
            first = tab.page.locator("figcaption strong").first
            expect(first).to_have_text("train/mse, val/mse over epochs")


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_no_page_is_wider_than_its_window(chromium: Chromium, url: str, width: int) -> None:
    with chromium.open(url, viewport={"width": width, "height": 800}) as tab:
        tab.page.locator("summary").nth(1).click()
        assert tab.page.evaluate("document.documentElement.scrollWidth") == width
        region = tab.page.get_by_role("region", name="test/mse of 3 groups")
        scrolls = region.evaluate("(each) => each.scrollWidth > each.clientWidth")
        assert scrolls == (width < 1000)
        region.focus()
        tab.page.keyboard.press("ArrowRight")
        if scrolls:
            tab.page.wait_for_function("(each) => each.scrollLeft > 0", arg=region.element_handle())


def test_light_and_dark_are_both_easy_to_read(chromium: Chromium, url: str) -> None:
    colours = []
    for scheme in ("light", "dark"):
        with chromium.open(url, color_scheme=scheme) as tab:
            contrasts = tab.page.evaluate(CONTRASTS)
            assert len(contrasts) > 200 and min(contrasts) >= 4.5
            figure = tab.page.locator("figure svg").first
            expect(figure).to_have_css("background-color", "rgb(255, 255, 255)")  # its ink is dark
            colours.append(tab.page.locator("body").evaluate(COLOURS))
    (ink, paper), (dark_ink, dark_paper) = colours
    assert ink != dark_ink and paper != dark_paper


def test_landmarks_and_the_skip_link(chromium: Chromium, url: str) -> None:
    with chromium.open(url) as tab:
        for role in ("banner", "navigation", "main"):
            expect(tab.page.get_by_role(role)).to_have_count(1)
        tab.page.keyboard.press("Tab")
        skip = tab.page.get_by_role("link", name="Skip to the conclusion")
        expect(skip).to_be_focused()
        expect(skip).to_be_in_viewport()
        tab.page.keyboard.press("Enter")
        assert tab.page.url == f"{url}#main"


def test_other_metrics_are_opened_by_whoever_wants_them(chromium: Chromium, url: str) -> None:
    with chromium.open(url) as tab:
        other = tab.page.get_by_role("table", name="code/entropy of 3 groups")
        expect(other).to_have_count(0)
        tab.page.locator("summary").nth(1).press("Enter")
        expect(other).to_be_visible()


def test_without_scripts_all_is_there(chromium: Chromium, url: str) -> None:
    with chromium.open(url, java_script_enabled=False) as tab:
        expect(results(tab.page).locator("tbody tr:visible")).to_have_count(3)
        expect(tab.page.locator("#runs tbody tr:visible")).to_have_count(10)
        expect(tab.page.get_by_text(EVIL).first).to_be_visible()
        expect(tab.page.locator("figure svg:visible")).not_to_have_count(0)
        expect(tab.page.get_by_label("Filter").locator("visible=true")).to_have_count(0)
        expect(tab.page.get_by_role("button")).to_have_count(0)


def test_on_paper_nothing_is_folded(chromium: Chromium, url: str) -> None:
    with chromium.open(url) as tab:
        tab.page.emulate_media(media="print")
        expect(tab.page.get_by_role("navigation")).to_be_hidden()
        folded = tab.page.locator("details:not([open]) table")
        height = folded.evaluate("(each) => each.getBoundingClientRect().height")
        assert height > 50
