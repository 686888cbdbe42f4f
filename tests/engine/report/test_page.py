"""The report says what the tables say, to whoever reads it and whatever stands in them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from made_study import make_study
from stelab.engine.comparison import Comparison, compare
from stelab.engine.report.drawing import Drawn
from stelab.engine.report.numbers import MISSING, number, p_value
from stelab.engine.report.page.write import render, write_report
from stelab.engine.studies.study import Study

EVIL = """<script>alert("1")</script>'"><img src=x onerror=alert(1)>"""
SVG = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
 width="9pt" height="9pt" viewBox="0 0 9 9">
<metadata><type resource="http://purl.org/dc/dcmitype/StillImage"/></metadata>
<defs><path id="a-dot" d="M 0 0 L 9 9"/></defs><use xlink:href="#a-dot"/>
</svg>"""
SETTINGS = (
    {"estimator": "identity", "level": 1},
    {"estimator": "hardtanh_clip", "level": 1},
    {"estimator": "none", "level": 2},
)


class Page(HTMLParser):
    """A parsed page: its elements, its texts, and the cells of its tables by their columns."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.tables: dict[str, list[dict[str, dict[str, str]]]] = {}
        self._header: list[str] = []
        self._cells: list[dict[str, str]] = []
        self._cell: dict[str, str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag == "table":
            self._table = self.tables[attributes["id"]] = []
            self._header = []
        elif tag == "tr":
            self._cells = []
        elif tag in ("td", "th"):
            self._cell = {"text": "", **attributes}
            self._cells.append(self._cell)
        elif tag == "a" and self._cell:
            self._cell["href"] = attributes["href"]

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = None
        elif tag == "tr" and self._header:
            self._table.append(dict(zip(self._header, self._cells, strict=True)))
        elif tag == "tr":
            self._header = [cell["text"] for cell in self._cells]

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell:
            self._cell["text"] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def column(self, table: str, name: str) -> list[str]:
        return [row[name]["text"].strip() for row in self.tables[table]]


def rendered(
    comparison: Comparison,
    *figures: tuple[Drawn, str],
    links: Mapping[tuple[str, str], str] | None = None,
    missing: tuple[str, ...] = (),
    command: str = "stelab compare study=made",
) -> str:
    return render(comparison, figures, command=command, missing=missing, links=links or {})


def page_of(study: Study, **options: Any) -> Page:
    return Page(rendered(compare(study, **options)))


def with_left_out(study: Study, *rows: tuple[str, str, str]) -> Study:
    left_out = pd.DataFrame(
        [("made", *row) for row in rows], columns=["study", "run", "state", "reason"]
    )
    return replace(study, left_out=left_out)


def test_the_cells_hold_the_numbers_of_the_table() -> None:
    comparison = compare(make_study(SETTINGS, spread=0.1), metrics=("test/mse", "code/entropy"))
    page = Page(rendered(comparison))
    written: dict[str, tuple[str, Callable[[Any], str]]] = {
        "n": ("n", str),
        "mean": ("mean", number),
        "sd": ("std", number),
        "difference": ("difference", lambda value: number(value, sign=True)),
        "d_z": ("effect_size", lambda value: number(value, sign=True)),
        "p": ("p", p_value),
        "p (Holm)": ("p_holm", p_value),
    }
    for metric in comparison.metrics:
        expected = comparison.rows(metric)
        rows = page.tables[f"results-{metric.replace('/', '-')}"]
        assert [row["estimator"]["text"] for row in rows] == list(expected["estimator"])
        for column, (name, write) in written.items():
            for row, value in zip(rows, expected[name], strict=True):
                found = float(row[column]["data-value"] or "nan")
                assert found == value or (math.isnan(found) and math.isnan(value))
                assert row[column]["text"] == write(value)


def test_the_conclusion_names_the_best_group_and_what_it_is_worth() -> None:
    page = page_of(
        with_left_out(make_study(SETTINGS), ("a", "failed", "boom"), ("b", "missing", ""))
    )
    for sentence in (
        "Lowest test/mse: identity = hardtanh_clip: 1.000 [-0.2421, 2.242], n = 3",
        "It is selected as the lowest of 2 means, by this very number, so its mean is likely too "
        "good.",
        "Second: none: 2.000 [-0.4841, 4.484], n = 3.",
        "Baseline: estimator=identity; each group is compared with it, paired by seed.",
        "2 groups against the baseline: 1 equal in every pair, 1 without a significant difference",
        "9 runs compared; 2 left out (1 failed, 1 missing).",
        "identity = hardtanh_clip: the same losses and codes in every epoch.",
    ):
        assert sentence in page.text
    assert "baseline itself" not in page.text
    verdicts = ["baseline selected = hardtanh_clip", "= identity", ""]
    assert page.column("results-test-mse", "verdict") == verdicts
    interval = page.column("results-test-mse", "95 % interval")
    assert interval == ["[-0.2421, 2.242]", "[-0.2421, 2.242]", "[-0.4841, 4.484]"]
    assert page.column("results-test-mse", "its 95 % interval") == [
        MISSING,
        "[0, 0]",
        "[-0.2421, +2.242]",
    ]


def test_significance_is_told_with_its_direction() -> None:
    settings = [{"threshold.value": value, "level": 1 + value} for value in (0.0, 1.0)]
    study = make_study(settings, seeds=5, spread=0.1)
    lower = page_of(study, baseline="threshold.value=1")
    assert "1 group against the baseline: 1 better (p < 0.05" in lower.text
    assert "Its difference to its baseline, threshold.value=1: -0.6000, " in lower.text
    assert "so its mean and its difference to the baseline are likely too good." in lower.text
    assert "p (Holm) < 0.001: significant." in lower.text
    higher = page_of(study, baseline="threshold.value=1", better="higher")
    assert "Highest test/mse: threshold.value=1: 1.200" in higher.text
    assert "1 group against the baseline: 1 worse (p < 0.05" in higher.text
    assert higher.column("results-test-mse", "verdict") == ["baseline selected", "worse"]
    assert lower.column("results-test-mse", "verdict") == ["selected better", "baseline"]


def test_one_replicate_has_no_interval_and_no_test() -> None:
    page = page_of(make_study(SETTINGS, seeds=1))
    assert "Lowest test/mse: identity = hardtanh_clip: 0.5000, n = 1, no interval" in page.text
    assert set(page.column("results-test-mse", "95 % interval")) == {"n = 1, no interval"}
    assert set(page.column("results-test-mse", "p (Holm)")) == {MISSING}
    assert "Second: none: 1.000, n = 1, no interval; no test compares the two." in page.text


def test_a_single_group_is_not_selected_nor_compared() -> None:
    page = page_of(make_study([{}]))
    assert page.column("results-test-mse", "group") == ["all runs"]
    assert "test/mse: all runs: 1.000" in page.text and "Lowest" not in page.text
    assert "No baseline is named, so no difference is tested." in page.text
    assert "difference" not in page.tables["results-test-mse"][0]


def test_whatever_runs_say_is_text() -> None:
    study = with_left_out(make_study([{"estimator": EVIL}, {}]), (EVIL, "failed", EVIL))
    study = replace(study, runs=study.runs.assign(command=EVIL))
    comparison = replace(compare(study), notes=(EVIL,))
    links = {("made", EVIL): EVIL}
    html = rendered(
        comparison, (Drawn(EVIL, EVIL, EVIL), SVG), links=links, missing=(EVIL,), command=EVIL
    )
    page = Page(html)
    assert len(page.all("script")) == 1 and page.all("img") == []
    assert page.text.count(EVIL) > 10
    assert page.column("left-out", "reason") == [EVIL]
    assert page.all("svg")[0]["aria-label"] == EVIL


def test_nothing_is_fetched() -> None:
    html = rendered(compare(make_study(SETTINGS)), (Drawn("a", "A", "An a."), SVG))
    assert "//" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", html).replace("// ", "")
    page = Page(html)
    assert "default-src 'none'" in page.all("meta")[-1]["content"]
    assert [e for e in page.elements if {"src", "srcset", "data", "action"} & set(e[1])] == []
    assert page.all("link") == [] and "@import" not in html and "url(" not in html
    assert [link["href"] for link in page.all("a") if "figures/" in link["href"]] == [
        "figures/a.svg",
        "figures/a.png",
    ]
    assert page.all("svg")[0] | {"role": "img", "aria-label": "A"} == page.all("svg")[0]
    assert page.all("use")[0]["xlink:href"] == "#a-dot"


def test_the_same_runs_in_another_order_make_the_same_page() -> None:
    settings = [{**s, "threshold.value": v} for s in SETTINGS for v in (0.5, 0.0)]
    study = with_left_out(make_study(settings), ("x", "failed", "no"), ("a", "missing", ""))
    mixed = replace(
        study,
        runs=study.runs.sample(frac=1, random_state=0),
        curves=study.curves.sort_values(["run", "epoch"], ascending=[False, True]),
        left_out=study.left_out[::-1],
    )
    assert list(mixed.runs["run"]) != list(study.runs["run"])
    assert rendered(compare(mixed)) == rendered(compare(study))


def test_what_was_swept_and_what_of_it_is_there() -> None:
    settings = (
        {"estimator": "identity", "threshold.value": 0.0},
        {"estimator": "identity", "threshold.value": 0.5, "seeds": 1},
        {"estimator": "none", "threshold.value": 0.0},
    )
    page = page_of(make_study(settings))
    keys = zip(page.column("keys", "key"), page.column("keys", "values"), strict=True)
    assert dict(keys) == {
        "estimator": "identity, none",
        "threshold.value": "0, 0.5",
        "seed": "0, 1, 2",
    }
    assert page.column("coverage", "threshold.value=0") == ["3 of 3", "3 of 3"]
    assert page.column("coverage", "threshold.value=0.5") == ["1 of 3 without seed 1, 2", "none"]
    assert page.column("results-test-mse", "n").count("1") == 1
    assert "coverage" not in page_of(make_study(SETTINGS)).tables


def test_every_run_has_a_row() -> None:
    study = make_study(SETTINGS[:2])
    study = with_left_out(study, ("run-1-s2", "failed", "boom"))
    commit = {"git.commit": "0123456789abcdef", "git.dirty": True, "command": "stelab train"}
    study = replace(study, runs=study.runs.assign(**commit))
    comparison = compare(study, where="estimator=hardtanh_clip")
    page = Page(rendered(comparison, links={("made", "run-0-s0"): "../run-0-s0/"}))
    runs = page.tables["runs"]
    assert [row["run"].get("href") for row in runs] == ["../run-0-s0/", *[None] * 5]
    unselected = ["finished, but left out by where"] * 3
    assert page.column("runs", "state") == [*unselected, "compared", "compared", "failed"]
    assert "6 runs that can be read; compared are those of estimator=hardtanh_clip" in page.text
    assert page.column("runs", "seed") == ["0", "1", "2"] * 2
    assert [float(row["test/mse"]["data-value"]) for row in runs] == list(study.runs["test/mse"])
    assert page.column("runs", "seconds")[:2] == ["10.0", "11.0"]
    assert page.column("runs", "commit")[0] == "01234567 with uncommitted changes"
    assert set(page.column("runs", "command")) == {"stelab train"}
    assert (
        "2 runs compared (only estimator=hardtanh_clip); 3 finished, but left out by where; "
        "1 left out (1 failed)." in page.text
    )


def test_a_configuration_that_was_run_again_says_so() -> None:
    study = make_study(SETTINGS[:1])
    again = study.runs.assign(fingerprint=["a", "b", "b"], seed=[0, 1, 1])
    page = page_of(replace(study, runs=again))
    old = "finished, but its configuration was run again"
    assert page.column("runs", "state") == ["compared", old, "compared"]
    assert f"2 runs compared; 1 {old}; no other left out." in page.text


def test_what_is_left_out_has_its_state_and_reason() -> None:
    rows = (("b", "missing", ""), ("c", "failed", "ValueError: no"), ("a", "interrupted", ""))
    page = page_of(with_left_out(make_study(SETTINGS), *rows))
    assert page.column("left-out", "run") == ["c", "a", "b"]
    assert page.column("left-out", "state") == ["failed", "interrupted", "missing"]
    assert page.column("left-out", "reason") == [
        "ValueError: no",
        "it was stopped; the same command continues it",
        "a sweep was to run it; it has not begun",
    ]
    none = page_of(make_study(SETTINGS))
    assert "left-out" not in none.tables and "none left out." in none.text
    html = rendered(compare(make_study(SETTINGS)), missing=("No images: no checkpoint.",))
    assert "No images: no checkpoint." in Page(html).text


def test_the_methods_are_those_of_the_comparison() -> None:
    study = make_study(SETTINGS)
    torch = ["2.9.0"] * 7 + ["2.10.0", None]  # a version that an older record does not say
    study = replace(study, runs=study.runs.assign(**{"versions.torch": torch, "machine.cpus": 2}))
    page = page_of(study, metrics=("test/mse", "code/entropy"))
    for sentence in (
        "data: mnist5k; model: mlp; threshold: fixed; estimator: hardtanh_clip, identity, none",
        "those that differ by seed alone are replicates",
        "Intervals are of 95 %, Student's",
        "minus its baseline's (estimator=identity), in the mean over pairs of equal seed",
        "two-sided paired t test",
        "1 of test/mse and 1 of code/entropy; below 0.05",
        "so one may leave out 0 although p (Holm) is not significant. Bands of curves are always "
        "Student's, pointwise: for each epoch by itself.",
    ):
        assert sentence in page.text
    environment = dict(
        zip(page.column("environment", "key"), page.column("environment", "value"), strict=True)
    )
    assert environment["versions.torch"] == "2.10.0 (1 run), 2.9.0 (7 runs), none (1 run)"
    assert environment["machine.cpus"] == "2"
    assert environment["seed"] == "0 (3 runs), 1 (3 runs), 2 (3 runs)"
    other = page_of(study, interval="bootstrap", confidence=0.9, baseline="none")
    assert "Intervals are of 90 %, of the bias-corrected and accelerated bootstrap" in other.text
    assert "two-sided sign-flip permutation test" in other.text and "below 0.1 " in other.text
    assert "Bands of curves are always Student's" in other.text
    assert "not corrected" not in page_of(make_study([{}])).text


def test_tables_and_headings_are_in_order_for_screen_readers() -> None:
    page = page_of(make_study(SETTINGS), metrics=("test/mse", "code/entropy"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    regions = [each for each in page.all("div") if each.get("role") == "region"]
    assert len(regions) == len(page.all("table"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {each["aria-labelledby"] for each in regions} <= set(ids)
    assert [("open" in each) for each in page.all("details")] == [True, False]


@pytest.mark.parametrize("name", ["made", "with space#1"])
def test_the_report_links_to_what_is_there(tmp_path: Path, name: str) -> None:
    study = make_study(SETTINGS)
    folders = [str(tmp_path / name / run) for run in study.runs["run"]]
    study = with_left_out(replace(study, runs=study.runs.assign(folder=folders)))
    study = with_left_out(study, ("broken", "unreadable", "no"), ("later", "missing", ""))
    for run in ("run-0-s0", "broken"):
        (tmp_path / name / run).mkdir(parents=True)
    comparison, folder = compare(study), tmp_path / name / "comparison"
    comparison.write(folder)
    (folder / "figures").mkdir()
    for suffix in ("svg", "png"):
        (folder / "figures" / f"a.{suffix}").write_text(SVG)
    path = write_report(comparison, folder, [Drawn("a", "A", "An a.")], command="stelab compare")
    assert path == folder / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert [row["run"].get("href") for row in page.tables["left-out"]] == ["../broken/", None]
    assert [row["run"].get("href") for row in page.tables["runs"]][:2] == ["../run-0-s0/", None]
    links = [link["href"] for link in page.all("a") if not link["href"].startswith("#")]
    assert all((folder / link).exists() for link in links)
    assert sorted(each.name for each in folder.glob("*.html")) == ["report.html"]
