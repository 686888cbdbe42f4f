"""What docs/which-estimator.md says is what its runs gave, whichever seed is held out."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
import pytest

from conftest import REPOSITORY
from made_study import study_of
from results.answer import TASKS, Ablation, answer, read_ablations

ABLATIONS = {ablation.task.name: ablation for ablation in read_ablations(REPOSITORY)}
PAGE = REPOSITORY / "docs" / "which-estimator.md"
BASE = [1.0, 1.1, 0.9, 1.05, 0.95]
DIFFERENCES = {
    "identity": [0.0] * 5,
    "relu": [-0.5, -0.52, -0.48, -0.51, -0.49],
    "tanh_slope": [1.0, 1.0, 1.0, 1.0, 0.05],  # significant, but not without one of its seeds
    "none": [0.01, -0.01, 0.02, -0.02, 0.0],
}


def made(*thresholds: float) -> Ablation:
    study = study_of(
        [
            {
                **{"estimator": name, "seed": seed, "optimizer.lr": 0.001},
                **({"threshold.value": threshold} if thresholds else {}),
                **{"test/mse": base + difference, "timings.seconds": 10.0 + 5 * (name == "relu")},
            }
            for name, differences in DIFFERENCES.items()
            for seed, (base, difference) in enumerate(zip(BASE, differences, strict=True))
            for threshold in thresholds or (0.0,)
        ]
    )
    rates = pd.DataFrame(
        {
            "names.estimator": ["identity"] * 3 + ["relu"] * 3,
            "optimizer.lr": [0.0001, 0.001, 0.01] * 2,
            "val/mse": [1.2, 1.0, 1.5, 0.7, 0.6, 0.5],
        }
    )
    return Ablation(replace(TASKS[0], also=("threshold.value",) * bool(thresholds)), study, rates)


def test_what_is_significant_holds_without_any_one_seed() -> None:
    ablation = made()
    whole = ablation.whole.rows("test/mse").set_index("estimator")
    assert whole.loc["tanh_slope", "significant"]
    words = {group.removeprefix("estimator="): word for group, word in ablation.words.items()}
    assert words == {"identity": "", "relu": "better", "tanh_slope": "", "none": ""}


def test_sentences_and_rows_are_of_the_runs() -> None:
    ablation = made()
    first, second, rates, end = ablation.sentences()
    assert first == "Of 4, relu has the best mean, 0.5000; identity is number 2, at 1.0000."
    assert second == "1 are better than identity, 0 worse; 2 cannot be told from it."
    assert "0.001, 0.01 in place of an estimator's own moves val/mse by 0.3500" in rates
    assert end.startswith("The rates of relu are the least or the largest")
    rows = [re.split(r" *\| *", row)[1:-1] for row in ablation.table()]
    assert rows[0] == ["estimator", "rate", "test/mse", "difference", "", "time"]
    assert rows[2][0] == "relu" and rows[2][-2:] == ["better", "1.5x"]
    assert rows[2][3].startswith("-0.5000 [-0.5")


def test_each_threshold_has_a_baseline() -> None:
    ablation = made(0.0, 0.5)
    second = [*ablation.sentences()][1]
    assert second == "2 are better than identity, 0 worse; 4 cannot be told from it."
    assert [row.split(" | ")[1] for row in ablation.table()][2:4] == ["0.0", "0.5"]


def test_the_page_is_up_to_date() -> None:
    assert PAGE.exists() == bool(ABLATIONS)
    if ABLATIONS:
        stale = "docs/which-estimator.md is stale: run scripts/write_results"
        assert PAGE.read_text(encoding="utf-8") == answer([*ABLATIONS.values()]), stale


@pytest.mark.parametrize("name", ABLATIONS)
def test_means_are_those_of_the_table_of_runs(name: str) -> None:
    """Of runs.csv, without `compare`."""
    ablation = ABLATIONS[name]
    runs = pd.read_csv(REPOSITORY / "results" / name / "runs.csv")
    keys = ["estimator", *ablation.task.also]
    for _, row in ablation.whole.rows(ablation.whole.metric).iterrows():
        own = runs
        for key in keys:
            own = own[own[key].isna() if pd.isna(row[key]) else own[key] == row[key]]
        assert own[ablation.whole.metric].mean() == pytest.approx(row["mean"], rel=1e-9)
