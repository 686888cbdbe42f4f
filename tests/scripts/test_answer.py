"""What docs/which-estimator.md says is what its runs gave, whichever seed is held out."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pandas as pd
import pytest
from scipy import stats

from conftest import REPOSITORY
from made_study import study_of
from results.ablations import COSINE, TASKS, Ablation, read_ablations
from results.answer import answer
from results.everywhere import what_holds_everywhere
from results.findings import (
    what_is_surprising,
    what_to_use,
    what_was_not_tried,
)
from results.measured import ARCHIVE

RUN = [t.name for t in TASKS if (REPOSITORY / "results" / t.name / ARCHIVE).exists()]
PAGE = REPOSITORY / "docs" / "which-estimator.md"
BASE = [1.0, 1.1, 0.9, 1.05, 0.95]
DIFFERENCES = {
    "identity": [0.0] * 5,
    "loo": [-0.5, -0.52, -0.48, -0.51, -0.49],
    "tanh_slope": [1.0, 1.0, 1.0, 1.0, 0.05],  # significant, but not without one of its seeds
    "none": [0.01, -0.01, 0.02, -0.02, 0.0],
    "relu": [2.0, 2.1, 1.9, 2.0, 2.0],
}
COSINES = {"identity": 0.5, "loo": 1.0, "tanh_slope": 0.3, "none": float("nan"), "relu": 0.1}


@cache
def stored() -> dict[str, Ablation]:
    """Read those in ``results/``, where a test needs them."""
    return {ablation.task.name: ablation for ablation in read_ablations(REPOSITORY)}


def made(*thresholds: float, **cosines: float) -> Ablation:
    study = study_of(
        [
            {
                **{"estimator": name, "seed": seed, "optimizer.lr": 0.001},
                **({"threshold.value": threshold} if thresholds else {}),
                **({COSINE: cosines[name]} if cosines else {}),
                "test/mse": base + difference + 0.2 * threshold,
                "timings.seconds": 10.0 + 5 * (name == "loo"),
            }
            for name, differences in DIFFERENCES.items()
            for seed, (base, difference) in enumerate(zip(BASE, differences, strict=True))
            for threshold in thresholds or (0.0,)
        ]
    )
    rates = pd.DataFrame(
        {
            "names.estimator": ["identity"] * 3 + ["relu"] * 4,
            "optimizer.lr": [0.0001, 0.001, 0.01, 0.0001, 0.001, 0.01, 0.00001],
            "val/mse": [1.2, 1.0, 1.5, 0.7, 0.6, 0.5, 9.0],
        }
    )
    task = replace(TASKS[0], also=("threshold.value",) * bool(thresholds))
    return Ablation(task, study, rates)


def test_what_is_significant_holds_without_any_one_seed() -> None:
    ablation = made()
    whole = ablation.rows.set_index("estimator")
    assert whole.loc["tanh_slope", "significant"]
    words = {group.removeprefix("estimator="): word for group, word in ablation.words.items()}
    none = dict.fromkeys(DIFFERENCES, "")
    assert words == none | {"loo": "better", "relu": "worse"}


def test_what_to_use_is_of_the_runs() -> None:
    assert [*what_to_use(made())] == [
        "Of 5, loo has the best mean, 0.5000; identity is number 2, at 1.0000.",
        "Better than identity: 1, first loo. None of them is as fast (1.25 times its time).",
        "Worse than identity: relu.",
    ]
    fast = made()
    fast.study.runs["timings.seconds"] = 1.0
    assert "Of those no slower (1.25 times its time), the best are loo." in [*what_to_use(fast)][1]
    alone = made()
    alone.study.runs.loc[alone.study.runs["estimator"] == "loo", "test/mse"] += 0.51
    assert [*what_to_use(alone)][1] == "None is better than identity, 3 cannot be told from it."


def test_what_holds_everywhere_is_of_the_tasks_and_the_estimators_of_all() -> None:
    one, other = made(), made(0.0, 0.5)
    runs = other.study.runs
    runs.loc[runs["estimator"] == "none", "test/mse"] += 1
    rest = runs[runs["estimator"] != "tanh_slope"]
    other = replace(other, study=replace(other.study, runs=rest))
    assert [*what_holds_everywhere([one, other])] == [
        "On 2 of 2 tasks the worst of the learning rates tried costs more than another estimator "
        "at its own rate does: choose the rate for the estimator first.",
        "4 estimators were tried on all 2 tasks. Worse than the baseline on none of them: loo and "
        "identity; and better on one or more: loo.",
        "Their mean places among each other, by means alone: loo 1.0, identity 2.0, none 3.0, "
        "relu 4.0.",
        "Better than the baseline on every task that has them, of those on two or more: loo.",
        "Worse than the baseline on every task that has them, of those on two or more: relu.",
    ]
    other.rates["val/mse"] = [1.0] * 6 + [9.0]  # where the rate does not matter
    other.rates.loc[:2, "val/mse"] = 2.0
    assert [*what_holds_everywhere([one, other])][0] == (
        "On 1 of 2 tasks the worst of the learning rates tried costs more than another estimator "
        "at its own rate does."
    )
    assert not [*what_holds_everywhere([one])]


def test_what_may_surprise_is_of_the_runs() -> None:
    bias, cosine, rates, threshold = what_is_surprising(made(0.0, 0.5, **COSINES))
    assert bias.startswith(
        "The best estimator is unbiased: loo, 0.5000 ahead of identity, the best"
    )
    assert bias.endswith("biased one. The worst unbiased one, loo, is number 1 of 5.")
    assert cosine.startswith("The cosine between mean estimate and exact gradient tells who trains")
    assert cosine.endswith(
        "over 4 estimators its rank correlation with how good test/mse is comes to 1.00 (p = 0)."
    )
    assert (
        "the worst of 0.0001, 0.001, 0.01 in place of an estimator's own moves val/mse by 0.3500"
        in rates
    )
    assert rates.startswith("The learning rate matters more than the estimator")
    assert threshold.startswith("A threshold of 0.5 in place of 0 moves test/mse by +0.1000 [")


@pytest.mark.parametrize("change", [{"relu": 0.6}, {"loo": 0.0, "relu": 1.0}])
def test_a_direction_that_does_not_decide_is_said_not_to(change: dict[str, float]) -> None:
    (cosine,) = (s for s in what_is_surprising(made(**COSINES | change)) if "cosine" in s)
    assert "does not tell who trains better" in cosine
    values = COSINES | change
    names = [name for name in values if name != "none"]
    order = {"loo": 4, "identity": 3, "tanh_slope": 2, "relu": 1}
    r = stats.spearmanr([values[n] for n in names], [order[n] for n in names]).statistic
    assert f"comes to {r:.2f} " in cosine


def test_a_difference_between_the_best_that_one_seed_makes_may_be_chance() -> None:
    ablation = made()
    runs = ablation.study.runs
    runs.loc[runs["estimator"] == "loo", "test/mse"] = [
        b - d for b, d in zip(BASE, (0.1, 0.1, 0.1, 0.1, -0.2), strict=True)
    ]
    (bias, _) = what_is_surprising(ablation)
    assert "loo, 0.0400 ahead of identity, the best biased one, which may be chance." in bias


def with_twins() -> Ablation:
    """Return an ablation in which identity and none are the same."""
    ablation = made()
    runs, curves = ablation.study.runs, ablation.study.curves
    one, other = (runs["estimator"] == name for name in ("identity", "none"))
    runs.loc[other, "test/mse"] = runs.loc[one, "test/mse"].to_numpy()
    for a, b in zip(runs.loc[one, "run"], runs.loc[other, "run"], strict=True):
        curves.loc[curves["run"] == b, "val/mse"] = curves.loc[
            curves["run"] == a, "val/mse"
        ].to_numpy()
    return ablation


def test_estimators_that_are_the_same_are_named() -> None:
    *_, last = what_is_surprising(with_twins())
    assert last == "The same to the last digit, as they are configured, are identity and none."
    *_, last = what_holds_everywhere([with_twins(), with_twins()])
    assert last == "The same to the last digit on every task that has both: identity and none."
    *_, last = what_holds_everywhere([with_twins(), made()])
    assert last.startswith("Worse than the baseline on every task")


def test_rates_at_an_end_are_named() -> None:
    (end,) = what_was_not_tried(made())
    assert end.startswith("The rates of relu are the least or the largest")


def test_a_row_is_of_a_setting() -> None:
    lines = answer([made(0.0, 0.5, **COSINES)]).splitlines()
    rows = [re.split(r" *\| *", line)[1:-1] for line in lines if line.startswith("|")]
    columns = ["estimator", "threshold.value", "rate", "test/mse", "difference", "", "time"]
    assert rows[0] == [*columns, "cosine"]
    assert rows[2][:3] == ["loo", "0.0", "0.001"] and rows[2][-3:] == ["better", "1.5x", "1.00"]
    assert rows[2][4].startswith("-0.5000 [-0.5")
    baselines = [row[1] for row in rows[2:] if row[4] == "–"]
    assert baselines == ["0.0", "0.5"]
    assert [row[-1] for row in rows if row[0] == "none"] == ["–", "–"]


def test_the_page_is_up_to_date() -> None:
    assert PAGE.exists() == bool(RUN)
    if RUN:
        stale = "docs/which-estimator.md is stale: run scripts/write_results"
        assert PAGE.read_text(encoding="utf-8") == answer([*stored().values()]), stale


@pytest.mark.parametrize("name", RUN)
def test_means_are_those_of_the_table_of_runs(name: str) -> None:
    """Of runs.csv, without `compare`."""
    ablation = stored()[name]
    runs = pd.read_csv(REPOSITORY / "results" / name / "runs.csv")
    keys = ["estimator", *ablation.task.also]
    for _, row in ablation.whole.rows(ablation.whole.metric).iterrows():
        own = runs
        for key in keys:
            own = own[own[key].isna() if pd.isna(row[key]) else own[key] == row[key]]
        assert own[ablation.whole.metric].mean() == pytest.approx(row["mean"], rel=1e-9)
