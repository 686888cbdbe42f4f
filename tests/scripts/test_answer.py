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
from results.ablations import COSINE, TASKS, VARIANCE, Ablation, of_whole_seeds, read_ablations
from results.answer import answer
from results.everywhere import what_holds_everywhere
from results.findings import (
    what_is_surprising,
    what_to_use,
    what_was_not_tried,
)

PAGE = REPOSITORY / "docs" / "which-estimator.md"
RUN = [t.name for t in TASKS if f"experiment={t.name}\n" in PAGE.read_text(encoding="utf-8")]
BASE = [1.0, 1.1, 0.9, 1.05, 0.95]
DIFFERENCES = {
    "identity": [0.0] * 5,
    "loo": [-0.5, -0.52, -0.48, -0.51, -0.49],
    "tanh_slope": [1.0, 1.0, 1.0, 1.0, 0.05],  # significant, but not without one of its seeds
    "none": [0.02, 0.0, 0.03, -0.01, 0.01],
    "relu": [2.0, 2.1, 1.9, 2.0, 2.0],
}
VALIDATION = [
    *(1.2, 1.0, 1.5),  # identity, at three rates
    *(0.6, 0.5, 0.9),  # loo
    *(1.0, 0.9, 1.3),  # tanh_slope
    *(1.4, 1.2, 1.3),  # none
    *(0.7, 0.6, 0.5),  # relu
]
# While training: in the order of how good the estimators are.
COSINES = {"identity": 0.5, "loo": 1.0, "tanh_slope": 0.3, "none": 0.4, "relu": 0.1}
VARIANCES = {"identity": 2.0, "loo": 1.0, "tanh_slope": 4.0, "none": 3.0, "relu": 5.0}


@cache
def stored() -> dict[str, Ablation]:
    """Read those in ``results/``, where a test needs them."""
    return {ablation.task.name: ablation for ablation in read_ablations(REPOSITORY)}


def made(
    *thresholds: float,
    cosines: dict[str, float] | None = None,
    variances: dict[str, float] | None = None,
) -> Ablation:
    """Return an ablation; of gradients with cosines, and no variance but where it is given."""
    study = study_of(
        [
            {
                **{"estimator": name, "seed": seed, "optimizer.lr": 0.001},
                **({"threshold.value": threshold} if thresholds else {}),
                **({COSINE: cosines[name]} if cosines else {}),
                **({VARIANCE: (variances or {}).get(name, 0.0)} if cosines else {}),
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
            "names.estimator": [name for name in DIFFERENCES for _ in range(3)] + ["relu"],
            "optimizer.lr": [0.0001, 0.001, 0.01] * len(DIFFERENCES) + [0.00001],
            "val/mse": [*VALIDATION, 9.0],
        }
    )
    task = replace(TASKS[0], also=("threshold.value",) * bool(thresholds), part="")
    return Ablation(task, study, rates)


def test_what_is_significant_holds_without_any_one_seed() -> None:
    ablation = made()
    whole = ablation.rows.set_index("estimator")
    assert whole.loc["tanh_slope", "significant"]
    words = {group.removeprefix("estimator="): word for group, word in ablation.words.items()}
    none = dict.fromkeys(DIFFERENCES, "")
    assert words == none | {"loo": "better", "relu": "worse", "tanh_slope": "(worse)"}


def test_what_to_use_is_of_the_runs() -> None:
    assert [*what_to_use(made())] == [
        "Of 5, loo has the best mean, 0.5000; identity is number 2, at 1.0000.",
        "Better than identity: 1, first loo. None of them is as fast (1.25 times its time).",
        "Worse than identity: relu.",
        "Not with each seed left out: tanh_slope (worse).",
        "Not shown to be behind loo (Holm, these 5): no estimator.",
    ]
    fast = made()
    fast.study.runs["timings.seconds"] = 1.0
    assert "Of those no slower (1.25 times its time), the best are loo." in [*what_to_use(fast)][1]
    alone = made()
    alone.study.runs.loc[alone.study.runs["estimator"] == "loo", "test/mse"] += 0.51
    assert [*what_to_use(alone)][1] == "None is better than identity, 2 are not shown to differ."
    near = made()
    runs = near.study.runs
    runs.loc[runs["estimator"] == "none", "test/mse"] = [
        b - d for b, d in zip(BASE, (0.5, 0.51, 0.49, 0.52, 0.47), strict=True)
    ]
    assert [*what_to_use(near)][-1] == "Not shown to be behind loo (Holm, these 5): none."


def test_what_holds_everywhere_is_of_the_tasks_and_the_estimators_of_all() -> None:
    one, other = made(), made(0.0, 0.5)
    runs = other.study.runs
    runs.loc[runs["estimator"] == "none", "test/mse"] += 1
    rest = runs[runs["estimator"] != "tanh_slope"]
    other = replace(other, study=replace(other.study, runs=rest))
    assert [*what_holds_everywhere([one, other])] == [
        "On 2 of 2 tasks a bad learning rate costs more than another estimator does, and on 0 of 2 "
        "less than the worst estimator; one rate for all, the best such, costs no more than "
        "another estimator on 2 of 2 (medians over estimators).",
        "4 estimators were tried on all 2 tasks. Shown to be worse than the baseline on none of "
        "them: loo and identity; and better on one or more: loo.",
        "Their mean places among each other, by means alone: loo 1.0, identity 2.0, none 3.0, "
        "relu 4.0.",
        "Better than the baseline on every task that has them, of those on two or more: loo.",
        "Worse than the baseline on every task that has them, of those on two or more: relu.",
    ]
    other.rates["val/mse"] = [1.0] * 6 + [1.5] * 6 + [3.0] * 4  # where the rate does not matter
    assert [*what_holds_everywhere([one, other])][0].startswith(
        "On 1 of 2 tasks a bad learning rate costs more than another estimator does, and on 1 of 2 "
    )
    assert not [*what_holds_everywhere([one])]


def test_where_each_is_worse_on_some_task_it_is_said() -> None:
    one, other = made(), made()
    one.study.runs.loc[one.study.runs["estimator"] == "loo", "test/mse"] += 1
    other = replace(other, task=replace(other.task, baseline="loo"))
    assert (
        "5 estimators were tried on all 2 tasks. Each is worse than the baseline on one or more, "
        "in parentheses or without."
    ) in [*what_holds_everywhere([one, other])]


def test_the_kind_that_is_best_is_told_where_tasks_differ_in_it() -> None:
    def other(worse: float) -> Ablation:
        ablation = made()
        runs = ablation.study.runs
        runs.loc[runs["estimator"] == "loo", "test/mse"] += worse
        return replace(ablation, task=replace(ablation.task, title="A task of its own"))

    said = (
        "The best estimator is unbiased on an autoencoder of 512 bits (loo), and biased on a task "
        "of its own (identity)."
    )
    assert said in [*what_holds_everywhere([made(), other(3.0)])]
    for same_or_chance in (0.0, 0.51):
        sentences = [*what_holds_everywhere([made(), other(same_or_chance)])]
        assert sentences
        assert not any("best estimator" in sentence for sentence in sentences)


def test_what_may_surprise_is_of_the_runs() -> None:
    bias, cosine, rates, threshold = what_is_surprising(made(0.0, 0.5, cosines=COSINES))
    assert bias.startswith(
        "The best estimator is unbiased: loo, 0.5000 ahead of identity, the best"
    )
    assert bias.endswith("biased one. The worst unbiased one, loo, is number 1 of 5.")
    assert cosine == (
        "The cosine between gradient and exact gradient tells who trains better, of 4 estimators "
        "whose gradient is biased and not drawn: its rank correlation with how good test/mse is "
        "comes to 1.00 (p = 0)."
    )
    assert rates == (
        "A learning rate costs: the worst of 0.0001, 0.001, 0.01 in place of an estimator's own "
        "0.4000 of val/mse, the best for all, 0.001, 0.0000 (medians over estimators). An "
        "estimator, at its own rate: 0.3000 from the median one to the others (median), 0.3000 to "
        "the worst."
    )
    assert threshold.startswith("A threshold of 0.5 in place of 0 moves test/mse by +0.1000 [")


def test_the_variance_of_gradients_that_are_drawn_is_told() -> None:
    """An unbiased one is among them without any, as the exact gradient is."""
    said = [*what_is_surprising(made(cosines=COSINES, variances=VARIANCES | {"loo": 0.0}))]
    (variance,) = (sentence for sentence in said if "rank correlation" in sentence)
    assert variance == (
        "The variance of the gradient tells who trains better, of 5 estimators whose gradient is "
        "drawn, or unbiased: its rank correlation with how good test/mse is comes to -1.00 "
        "(p = 1.4e-24)."
    )


def test_gradients_of_a_part_of_the_code_are_said_to_be() -> None:
    ablation = made(cosines=COSINES)
    ablation = replace(ablation, task=replace(ablation.task, part="8 of the bits"))
    page = answer([ablation])
    assert "The cosine between gradient and exact gradient (8 of the bits) tells" in page
    assert "Seeds 0 to 4. Cosine and variance are of 8 of the bits.\n" in page


@pytest.mark.parametrize("change", [{"relu": 0.6}, {"relu": 1.0, "identity": 0.0}])
def test_a_direction_that_does_not_decide_is_said_not_to(change: dict[str, float]) -> None:
    values = COSINES | change
    (cosine,) = (s for s in what_is_surprising(made(cosines=values)) if "cosine" in s)
    assert "does not tell who trains better" in cosine
    order = {"identity": 4, "none": 3, "tanh_slope": 2, "relu": 1}
    r = stats.spearmanr([values[n] for n in order], [*order.values()]).statistic
    assert f"comes to {r:.2f} " in cosine


def test_a_direction_that_one_seed_decides_is_said_to_be() -> None:
    """Without seed 0, none is ahead of identity, and four estimators are in another order."""
    ablation = made(cosines=COSINES)
    runs = ablation.study.runs
    runs.loc[runs["estimator"] == "none", "test/mse"] = [
        b + d for b, d in zip(BASE, (0.1, -0.01, -0.01, -0.01, -0.01), strict=True)
    ]
    (cosine,) = (s for s in what_is_surprising(ablation) if "cosine" in s)
    assert " tells (not with each seed left out) who trains better, of 4" in cosine


def test_a_variance_that_does_not_decide_is_said_not_to() -> None:
    values = VARIANCES | {"loo": 6.0, "relu": 0.5}
    (variance,) = (
        s for s in what_is_surprising(made(cosines=COSINES, variances=values)) if "rank" in s
    )
    assert "does not tell who trains better, of 5" in variance


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
    lines = answer([made(0.0, 0.5, cosines=COSINES | {"none": float("nan")})]).splitlines()
    rows = [re.split(r" *\| *", line)[1:-1] for line in lines if line.startswith("|")]
    columns = ["estimator", "threshold.value", "rate", "test/mse", "difference", "", "time"]
    assert rows[0] == [*columns, "cosine", "variance"]
    assert rows[2][:3] == ["loo", "0.0", "0.001"]
    assert rows[2][-4:] == ["better", "1.5x", "1.00", "0"]
    assert rows[2][4].startswith("-0.5000 [-0.5")
    baselines = [row[1] for row in rows[2:] if row[4] == "–"]
    assert baselines == ["0.0", "0.5"]
    assert [row[-2] for row in rows if row[0] == "none"] == ["–", "–"]


def test_the_page_is_up_to_date() -> None:
    stale = "docs/which-estimator.md is stale: run scripts/write_results"
    assert PAGE.read_text(encoding="utf-8") == answer([*stored().values()]), stale
    assert [*stored()] == RUN


def test_a_seed_counts_when_all_of_its_rows_are_finished() -> None:
    ablation = made(0.0, 0.5)
    searched = pd.DataFrame({"names.estimator": [*DIFFERENCES]})
    runs = ablation.study.runs
    last = (runs["estimator"] == "relu") & (runs["threshold.value"] == 0.5) & (runs["seed"] == 4)
    started = replace(ablation.study, runs=runs[~last])
    whole = of_whole_seeds(started, searched, ablation.task)
    assert sorted(whole.finished["seed"].unique()) == [0, 1, 2, 3]
    never = pd.DataFrame({"names.estimator": [*DIFFERENCES, "exact"]})
    assert of_whole_seeds(started, never, ablation.task).finished.empty


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
