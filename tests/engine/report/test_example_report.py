"""docs/example-report: every number in it follows from the tables beside it."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from conftest import REPOSITORY
from stelab.engine.comparison import Comparison, compare
from stelab.engine.report.page.write import render
from stelab.engine.report.study_figures import draw_figures
from stelab.engine.studies import Study

FOLDER = REPOSITORY / "docs" / "example-report"
COMMAND = "stelab compare study=backward"


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    tables = {name: pd.read_csv(FOLDER / f"{name}.csv") for name in ("runs", "curves", "left_out")}
    return compare(Study(**tables, swept=("estimator", "threshold.value", "seed")))


def test_it_is_of_at_least_four_estimators_two_thresholds_and_five_seeds(
    comparison: Comparison,
) -> None:
    runs = comparison.runs
    assert set(runs["data"]) == {"mnist"}
    assert runs["estimator"].nunique() >= 4
    assert runs["threshold.value"].nunique() >= 2
    assert set(runs.groupby("group")["seed"].nunique()) == {5}


def test_the_table_is_that_of_the_runs(comparison: Comparison) -> None:
    committed = pd.read_csv(FOLDER / "comparison.csv", keep_default_na=True)
    computed = comparison.table.reset_index(drop=True)
    committed["baseline"] = committed["baseline"].fillna("")
    assert_frame_equal(computed, committed, check_dtype=False, rtol=1e-9, atol=0)


def test_the_page_is_that_of_the_tables(comparison: Comparison, tmp_path: Path) -> None:
    page = (FOLDER / "report.html").read_text(encoding="utf-8")
    computed = render(comparison, [], command=COMMAND, missing=[], links={})
    assert without_figures(computed) == without_figures(page)
    for drawn in draw_figures(comparison, tmp_path, log_scale=True):
        assert drawn.text in html.unescape(page)


def test_the_figures_are_those_of_the_tables(comparison: Comparison, tmp_path: Path) -> None:
    drawn = draw_figures(comparison, tmp_path, log_scale=True)
    assert {each.name for each in drawn} >= {"curves", "points", "heatmap", "code_health"}
    for each in drawn:
        ours = (tmp_path / f"{each.name}.svg").read_text(encoding="utf-8")
        theirs = (FOLDER / "figures" / f"{each.name}.svg").read_text(encoding="utf-8")
        words, numbers = parts(ours)
        committed_words, committed_numbers = parts(theirs)
        assert words == committed_words
        # In points of 1/72 inch: processors may round a sum differently.
        np.testing.assert_allclose(numbers, committed_numbers, atol=1e-3)


def without_figures(page: str) -> str:
    return re.sub(r'<h2 id="figures">.*?</section>', "", page, flags=re.DOTALL)


def parts(svg: str) -> tuple[list[str], list[float]]:
    """Tell the numbers of a drawing from the rest."""
    number = r"-?\d+\.\d+"
    return re.split(number, svg), [float(found) for found in re.findall(number, svg)]
