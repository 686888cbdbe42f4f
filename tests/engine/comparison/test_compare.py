"""The comparison of made-up studies: numbers, pairs, what does not change them, and mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pingouin
import pytest
from pandas.testing import assert_frame_equal
from statsmodels.stats.weightstats import DescrStatsW

from made_study import Row, random_study, study_of
from stelab.engine.comparison import Comparison, compare
from stelab.engine.errors import InputError
from stelab.engine.studies import Study

SEEDS = range(5)
METRICS = ("test/mse", "val/mse")


def made(**groups: list[float]) -> Study:
    """Make an estimator of each name, with a value a seed."""
    return study_of(
        [
            {"estimator": name, "seed": seed, "test/mse": value}
            for name, values in groups.items()
            for seed, value in enumerate(values)
        ]
    )


def rows_of(comparison: Comparison, metric: str = "test/mse") -> dict[str, dict[str, Any]]:
    """Return a metric's rows by group, best first."""
    rows = comparison.table[comparison.table["metric"] == metric].to_dict("records")
    return {row["group"]: row for row in rows}


def of_random(study: Study, **options: Any) -> Comparison:
    """Compare all metrics with the first value of the first setting."""
    if keys := [key for key in study.swept if key != "seed"]:
        options.setdefault("baseline", f"{keys[0]}={study.runs[keys[0]].dropna().min()}")
    metrics = [name for name in METRICS if study.runs[name].notna().any()]
    return compare(study, metrics=metrics, **options)


# --- The numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_table_equals_one_of_other_libraries(seed: int) -> None:
    comparison = of_random(random_study(seed))
    table = comparison.table
    assert set(table["metric"]) == set(comparison.metrics)
    for row in table.to_dict("records"):
        own = sample(comparison, row, row["group"])
        assert row["n"] == len(own)
        np.testing.assert_allclose(row["mean"], own.mean(), rtol=1e-9)
        check_interval(own, row["low"], row["high"], row["std"])
        if row["baseline"] in ("", row["group"]):
            assert row["pairs"] == 0
            assert np.isnan([row["difference"], row["p"], row["p_holm"]]).all()
            continue
        other = sample(comparison, row, row["baseline"])
        difference = (own - other).dropna()
        assert row["pairs"] == len(difference)
        if len(difference):
            assert row["difference"] == pytest.approx(difference.mean(), rel=1e-9, abs=1e-12)
        check_interval(difference, row["difference_low"], row["difference_high"])
        if len(difference) < 3:  # too few to tell
            assert np.isnan([row["p"], row["effect_size"]]).all()
        elif np.ptp(difference) > 1e-9:
            p = DescrStatsW(difference).ttest_mean(0)[1]
            d_z = pingouin.compute_effsize(difference.to_numpy(), 0.0, eftype="cohen")
            assert (row["p"], row["effect_size"]) == pytest.approx((p, d_z), rel=1e-6)
    for _, rows in table.groupby("metric"):  # Holm, a metric at a time
        if rows["p"].notna().any():
            holm = pingouin.multicomp(rows["p"].to_numpy(), method="holm")[1]
            np.testing.assert_allclose(rows["p_holm"], holm, rtol=1e-9)
    assert list(table["significant"]) == list(table["p_holm"] < 0.05)


def sample(comparison: Comparison, row: Row, group: str) -> pd.Series:
    """Return the metric of a group by seed, found without the product's grouping."""
    (settings,) = (g.settings for g in comparison.groups if g.label == group)
    runs = comparison.study.runs
    for key, value in settings.items():
        runs = runs[runs[key].isna() if value is None else runs[key] == value]
    values: pd.Series = runs.groupby("seed")[row["metric"]].mean().dropna()
    return values


def check_interval(values: pd.Series, low: float, high: float, std: float | None = None) -> None:
    if len(values) < 2:
        assert np.isnan([low, high]).all()
        return
    theirs = DescrStatsW(values)
    assert (low, high) == pytest.approx(theirs.tconfint_mean(0.05), rel=1e-9, abs=1e-12)
    if std is not None:
        assert std == pytest.approx(theirs.var_ddof(1) ** 0.5, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("better", ["lower", "higher"])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_comes_first(seed: int, better: Any) -> None:
    comparison = of_random(random_study(seed), better=better)
    first = comparison.table["metric"] == comparison.metric
    means = list(comparison.table.loc[first, "mean"].dropna())
    assert means == sorted(means, reverse=better == "higher")
    for metric in comparison.metrics:  # in the same order
        assert list(rows_of(comparison, metric)) == [g.label for g in comparison.groups]
    selected = comparison.table[comparison.table["selected"]]
    assert list(selected.index) == ([0] if len(means) > 1 else [])


# --- What does not change them -----------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_runs_does_not_matter(seed: int) -> None:
    study = random_study(seed)
    rng = np.random.default_rng(seed)
    shuffled = Study(
        runs=study.runs.iloc[rng.permutation(len(study.runs))],
        curves=study.curves.iloc[rng.permutation(len(study.curves))],
        left_out=study.left_out,
        swept=study.swept,
    )
    assert_same(of_random(study), of_random(shuffled))


@pytest.mark.parametrize("seed", SEEDS)
def test_names_of_runs_and_studies_do_not_matter(seed: int) -> None:
    study = random_study(seed)
    names = np.random.default_rng(seed).permutation(len(study.runs))
    new = dict(zip(study.runs["run"], (f"x{name}" for name in names), strict=True))
    renamed = Study(
        runs=study.runs.assign(run=study.runs["run"].map(new), study="later"),
        curves=study.curves.assign(run=study.curves["run"].map(new), study="later"),
        left_out=study.left_out,
        swept=study.swept,
    )
    assert_same(of_random(study), of_random(renamed))


@pytest.mark.parametrize("seed", SEEDS)
def test_runs_that_are_loaded_twice_count_once(seed: int) -> None:
    study = random_study(seed)
    both = Study(
        runs=pd.concat([study.runs, study.runs.assign(study="copy")], ignore_index=True),
        curves=pd.concat([study.curves, study.curves.assign(study="copy")], ignore_index=True),
        left_out=study.left_out,
        swept=study.swept,
    )
    found = of_random(both)
    assert_same(of_random(study), found)
    note = found.notes[0]
    assert f"{len(study.runs)} of copy" in note or f"{len(study.runs)} of made" in note


def assert_same(one: Comparison, other: Comparison) -> None:
    """All numbers are exactly equal."""
    assert_frame_equal(one.table, other.table, check_exact=True)
    assert one.identical == other.identical
    assert [g.label for g in one.groups] == [g.label for g in other.groups]
    assert one.baseline == other.baseline


@pytest.mark.parametrize("seed", range(3))
def test_the_bootstrap_is_as_steady(seed: int) -> None:
    study = random_study(seed)
    runs = study.runs.iloc[np.random.default_rng(seed).permutation(len(study.runs))]
    shuffled = Study(runs, study.curves, study.left_out, study.swept)
    assert_same(of_random(study, interval="bootstrap"), of_random(shuffled, interval="bootstrap"))


@pytest.mark.parametrize("seed", range(4))
def test_a_unit_does_not_matter(seed: int) -> None:
    study = random_study(seed)
    runs = study.runs.assign(**{name: 8 * study.runs[name] for name in METRICS})  # exact
    one, eight = of_random(study), of_random(Study(runs, study.curves, study.left_out, study.swept))
    for name in ("mean", "std", "low", "high", "difference", "difference_low", "difference_high"):
        np.testing.assert_allclose(8 * one.table[name], eight.table[name], rtol=1e-9, atol=1e-12)
    for name in ("p", "p_holm", "effect_size"):
        np.testing.assert_allclose(one.table[name], eight.table[name], rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_another_setting_changes_only_the_correction(seed: int) -> None:
    study = random_study(seed)
    worst = {"estimator": "zzz", "threshold.value": 0.0, "seed": 0, "test/mse": 9.0, "val/mse": 9.0}
    fields = {"run": "new", "fingerprint": "new", "study": "made", "timings.ended": ""}
    more = pd.concat([study.runs, pd.DataFrame([{**worst, **fields}])], ignore_index=True)
    swept = tuple(dict.fromkeys([*study.swept, "estimator"]))
    curves = pd.DataFrame([{"study": "made", "run": "new", "epoch": 1, "val/mse": 9.0}])
    curves = pd.concat([study.curves, curves], ignore_index=True)
    by = list(dict.fromkeys(["estimator", *(key for key in study.swept if key != "seed")]))
    before = rows_of(of_random(study, by=by))
    after = rows_of(
        of_random(
            Study(more, curves, study.left_out, swept),
            by=by,
            baseline=f"estimator={min(study.runs['estimator'])}",
        )
    )
    for group, row in before.items():
        if row["baseline"]:
            for name in ("n", "mean", "low", "high", "pairs", "difference", "p"):
                np.testing.assert_equal(after[group][name], row[name])


# --- Pairs -------------------------------------------------------------------------------------


def test_runs_are_paired_by_seed() -> None:
    study = study_of(
        [
            *({"estimator": "identity", "seed": s, "test/mse": 10.0 * s} for s in (0, 1, 2, 11)),
            *({"estimator": "none", "seed": s, "test/mse": 10.0 * s + s} for s in (11, 3, 1)),
        ]
    )
    row = rows_of(compare(study))["none"]
    assert (row["n"], row["pairs"]) == (3, 2)  # 1 and 11
    assert row["difference"] == 6.0
    assert rows_of(compare(study))["identity"]["n"] == 4


def test_without_a_common_seed_there_is_no_difference() -> None:
    study = study_of(
        [
            {"estimator": "identity", "seed": 0, "test/mse": 1.0},
            {"estimator": "none", "seed": 1, "test/mse": 2.0},
        ]
    )
    row = rows_of(compare(study))["none"]
    assert (row["baseline"], row["pairs"], row["significant"]) == ("identity", 0, False)
    assert np.isnan([row["difference"], row["p"], row["effect_size"]]).all()


def test_other_replicates() -> None:
    rows = [
        {"estimator": e, "data.split_seed": i, "seed": s, "test/mse": v + i + 10.0 * s}
        for e, v in (("identity", 0.0), ("none", 1.0))
        for i in range(3)
        for s in range(2)
    ]
    row = rows_of(compare(study_of(rows), replicates=["seed", "data.split_seed"]))["none"]
    assert (row["n"], row["pairs"], row["difference"]) == (6, 6, 1.0)
    assert (row["difference_low"], row["difference_high"]) == (1.0, 1.0)
    with pytest.raises(InputError, match="splitt is not a setting in which these runs differ"):
        compare(study_of(rows), replicates=["splitt"])


def test_by_leaves_out_a_setting_replicate_by_replicate() -> None:
    rows = [
        {"estimator": e, "threshold.value": t, "seed": s, "test/mse": v + t + 100.0 * s}
        for e, v in (("identity", 0.0), ("none", 1.0))
        for t in (0.0, 0.5, 1.0)
        for s in range(3)
    ]
    comparison = compare(study_of(rows), by=["estimator"])
    row = rows_of(comparison)["none"]
    assert (row["runs"], row["n"], row["pairs"]) == (9, 3, 3)
    assert (row["mean"], row["difference"]) == pytest.approx((101.5, 1.0))
    assert row["std"] == pytest.approx(100.0)
    assert comparison.notes == (
        "Means over threshold.value, replicate by replicate: by leaves them out.",
    )
    assert compare(study_of(rows)).notes == ()
    # All of it left out.
    (whole,) = rows_of(compare(study_of(rows), by=[])).values()
    assert (whole["group"], whole["runs"], whole["n"]) == ("all runs", 18, 3)


# --- The baseline ------------------------------------------------------------------------------

GRID: list[Row] = [
    {"estimator": e, "threshold.value": t, "seed": s, "test/mse": v + t + 0.01 * s**2 * (v + 1)}
    for e, v in (("identity", 1.0), ("none", 2.0), ("hardtanh_clip", 1.5))
    for t in (0.0, 0.5)
    for s in range(3)
]


def baselines(comparison: Comparison) -> dict[str, str]:
    return {group: row["baseline"] for group, row in rows_of(comparison).items()}


def test_the_default_baseline_at_each_other_setting() -> None:
    comparison = compare(study_of(GRID))
    assert comparison.by == ("estimator", "threshold.value")
    assert comparison.baseline == "estimator=identity"
    assert baselines(comparison) == {
        f"{e}, threshold.value={t}": f"identity, threshold.value={t}"
        for e in ("identity", "none", "hardtanh_clip")
        for t in ("0", "0.5")
    }


@pytest.mark.parametrize(
    "text",
    ["estimator=none threshold.value=0.5", "none 0.5", "threshold.value=0.50 estimator=none"],
)
def test_one_baseline_for_all(text: str) -> None:
    comparison = compare(study_of(GRID), baseline=text)
    assert set(baselines(comparison).values()) == {"none, threshold.value=0.5"}
    own = rows_of(comparison)["none, threshold.value=0.5"]
    assert own["pairs"] == 0 and np.isnan(own["difference"])


@pytest.mark.parametrize("text", ["threshold.value=0", "0", "0.0", "threshold.value=0e0"])
def test_a_baseline_of_another_setting(text: str) -> None:
    comparison = compare(study_of(GRID), baseline=text)
    for group, baseline in baselines(comparison).items():
        assert baseline == group.replace("=0.5", "=0")


@pytest.mark.parametrize(
    ("rows", "baseline"),
    [
        ([{"estimator": "none"}, {"estimator": "hardtanh_clip"}], ""),  # no default among them
        ([{"estimator": "identity"}], ""),  # nothing to compare
        ([{"threshold.value": 0.0}, {"threshold.value": 0.5}], "threshold.value=0"),
        ([{"model": "mlp"}, {"model": "conv"}], "model=conv"),
        ([{"optimizer": "adam"}, {"optimizer": "sgd"}], "optimizer=adam"),
        ([{"trainer.max_epochs": 5}, {"trainer.max_epochs": 9}], "trainer.max_epochs=5"),
        ([{"data.limit": "null"}, {"data.limit": "64"}], "data.limit=null"),
        ([{"model.signed": "true"}, {"model.signed": "false"}], "model.signed=false"),
        (
            [{"optimizer.betas": "[0.9,0.999]"}, {"optimizer.betas": "[0.5,0.999]"}],
            "optimizer.betas=[0.9,0.999]",
        ),
        ([{"callbacks.mine": "A"}, {"callbacks.mine": "B"}], ""),
    ],
)
def test_the_default_is_what_train_takes(rows: list[Row], baseline: str) -> None:
    comparison = compare(study_of([{**row, "test/mse": 1.0} for row in rows]))
    assert comparison.baseline == baseline
    if baseline:  # it can be given as it is told
        again = compare(study_of([{**row, "test/mse": 1.0} for row in rows]), baseline=baseline)
        assert_frame_equal(again.table, comparison.table)


def test_a_baseline_that_lacks_what_others_have() -> None:
    rows: list[Row] = [{"estimator": "identity", "threshold.value": t} for t in (0.0, 0.5)]
    rows += [
        {"estimator": "gumbel_st", "estimator.temperature": k, "threshold.value": t}
        for k in (0.1, 1.0)
        for t in (0.0, 0.5)
    ]
    comparison = compare(study_of([{**row, "test/mse": float(i)} for i, row in enumerate(rows)]))
    for group, baseline in baselines(comparison).items():
        assert baseline == f"identity, {group.rpartition(', ')[2]}"
    # The other way round no partner is meant.
    other = compare(
        study_of([{**row, "test/mse": float(i)} for i, row in enumerate(rows)]),
        baseline="estimator.temperature=0.1",
    )
    assert baselines(other)["identity, threshold.value=0"] == ""


def test_the_nearest_baseline_is_the_partner() -> None:
    rows: list[Row] = [
        {"estimator": "identity", "test/mse": 1.0},
        {"estimator": "identity", "optimizer.fused": "true", "test/mse": 2.0},
        {"estimator": "none", "optimizer.fused": "true", "test/mse": 3.0},
        {"estimator": "none", "test/mse": 4.0},
    ]
    assert baselines(compare(study_of(rows))) == {
        "identity": "identity",
        "identity, optimizer.fused=true": "identity, optimizer.fused=true",
        "none, optimizer.fused=true": "identity, optimizer.fused=true",
        "none": "identity",
    }


# --- What is compared --------------------------------------------------------------------------


def test_where() -> None:
    study = study_of(GRID)
    some = compare(study, where="estimator=identity,none threshold.value=0.5")
    assert some.by == ("estimator",)  # what is fixed tells nothing apart
    assert list(rows_of(some)) == ["identity", "none"]
    assert list(rows_of(compare(study, where="identity 0.5"))) == ["all runs"]
    assert rows_of(compare(study, where="seed=0,2"))["none, threshold.value=0"]["n"] == 2
    assert len(compare(study, where="").groups) == 6


def test_lists_are_values() -> None:
    rows = [
        {"optimizer.betas": betas, "seed": s, "test/mse": float(s + i)}
        for i, betas in enumerate(["[0.9,0.999]", "[0.5,0.9]"])
        for s in range(2)
    ]
    comparison = compare(study_of(rows), baseline="optimizer.betas=[0.5,0.9]")
    assert set(baselines(comparison).values()) == {"optimizer.betas=[0.5,0.9]"}
    assert len(compare(study_of(rows), where="optimizer.betas=[0.9,0.999]").runs) == 2


def test_numbers_that_agree_in_six_digits_are_two_settings() -> None:
    values = (0.00123456789, 0.00123456788)
    rows: list[Row] = [
        {"optimizer.lr": lr, "seed": s, "test/mse": float(i)}
        for i, lr in enumerate(values)
        for s in range(2)
    ]
    found = rows_of(compare(study_of(rows)))
    assert {group: row["mean"] for group, row in found.items()} == {
        "optimizer.lr=0.00123456789": 0.0,
        "optimizer.lr=0.00123456788": 1.0,
    }


def test_a_metric_that_some_runs_lack() -> None:
    rows: list[Row] = [
        {"estimator": e, "seed": s, "test/mse": 1.0 + s, "val/mse": 2.0 * s + i}
        for i, e in enumerate(("identity", "none", "relu"))
        for s in range(3)
    ]
    for row in rows:
        if row["estimator"] == "relu" or (row["estimator"], row["seed"]) == ("none", 2):
            del row["val/mse"]
    comparison = compare(study_of(rows), metrics=["val/mse", "test/mse"])
    found = rows_of(comparison, "val/mse")
    assert {group: row["n"] for group, row in found.items()} == {
        "none": 2,
        "identity": 3,
        "relu": 0,
    }
    assert found["none"]["pairs"] == 2
    assert found["relu"]["runs"] == 3
    assert np.isnan([found["relu"][name] for name in ("mean", "low", "p", "difference")]).all()
    assert list(found)[-1] == "relu"
    assert rows_of(comparison, "test/mse")["relu"]["n"] == 3


def test_holm_corrects_each_metric_for_its_own_tests() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"estimator": e, "seed": s, "test/mse": rng.normal(), "val/mse": rng.normal()}
        for e in ("identity", "a", "b", "c")
        for s in range(5)
    ]
    both = compare(study_of(rows), metrics=METRICS)
    for metric in METRICS:
        one = compare(study_of(rows), metrics=[metric])
        for group, row in rows_of(one, metric).items():
            np.testing.assert_equal(rows_of(both, metric)[group]["p_holm"], row["p_holm"])
    p = sorted(row["p"] for row in rows_of(both).values() if row["pairs"])
    assert min(row["p_holm"] for row in rows_of(both).values() if row["pairs"]) == 3 * p[0]


def test_what_significant_means() -> None:
    study = made(
        identity=[1.0, 2.0, 3.0, 4.0], none=[2.1, 3.0, 4.1, 5.0], relu=[1.1, 1.9, 3.1, 3.9]
    )
    found = rows_of(compare(study))
    assert found["none"]["significant"] is True
    assert found["relu"]["significant"] is False
    assert found["identity"]["significant"] is False
    assert rows_of(compare(study, confidence=0.99999))["none"]["significant"] is False


def test_one_run() -> None:
    comparison = compare(study_of([{"test/mse": 0.5}]))
    (row,) = rows_of(comparison).values()
    assert (row["group"], row["n"], row["mean"], row["selected"]) == ("all runs", 1, 0.5, False)
    assert np.isnan([row["std"], row["low"], row["high"]]).all()
    assert comparison.by == ()
    assert comparison.identical == ()


def test_two_hundred_groups() -> None:
    rows = [
        {"threshold.value": i / 100, "seed": s, "test/mse": (i * 37 % 200) + s * (i % 7 + 1) / 10}
        for i in range(200)
        for s in range(3)
    ]
    comparison = compare(study_of(rows))
    assert comparison.by == ("threshold.value",)
    assert len(comparison.table) == 200
    assert comparison.table["p"].notna().sum() + comparison.table["p"].isna().sum() == 200
    assert list(comparison.table["mean"]) == sorted(comparison.table["mean"])
    assert set(comparison.table["baseline"]) == {"threshold.value=0"}


def test_newest_of_two_runs_of_a_configuration_counts() -> None:
    rows: list[Row] = [
        {"study": "a", "fingerprint": "x", "test/mse": 1.0, "timings.ended": "2026-01-02"},
        {"study": "b", "fingerprint": "x", "test/mse": 2.0, "timings.ended": "2026-01-01"},
        {"study": "b", "fingerprint": None, "test/mse": 1.5, "seed": 1},
        {"study": "b", "fingerprint": None, "test/mse": 1.5, "seed": 2},  # unknown: all count
    ]
    comparison = compare(study_of(rows))
    (row,) = rows_of(comparison).values()
    assert (row["n"], row["mean"]) == (3, pytest.approx(4 / 3))
    assert comparison.notes == (
        "Configurations that were run twice count once, the newest run; left out: 1 of b. "
        "Their results differ: by=study,... compares the studies.",
    )
    apart = compare(study_of(rows), by=["study"])
    assert {group: row["mean"] for group, row in rows_of(apart).items()} == {
        "study=a": 1.0,
        "study=b": pytest.approx(5 / 3),
    }
    assert apart.notes == ()


# --- Identical ----------------------------------------------------------------------------


def with_curves(**groups: list[list[float]]) -> Study:
    """Make an estimator of each name, with a curve a seed."""
    return study_of(
        [
            {"estimator": name, "seed": seed, "test/mse": curve[-1], "curve": curve}
            for name, curves in groups.items()
            for seed, curve in enumerate(curves)
        ]
    )


def test_identical_groups_are_the_same_in_every_epoch() -> None:
    same = [[3.0, 2.0, 1.0], [4.0, 2.5, 1.5]]
    study = with_curves(
        identity=same,
        hardtanh_clip=same,
        relu=[[3.0, 2.1, 1.0], [4.0, 2.5, 1.5]],  # another one on the way
        shorter=same[:1],  # without a seed
        swapped=same[::-1],
    )
    comparison = compare(study)
    (pair,) = comparison.identical
    assert sorted(pair.labels) == ["hardtanh_clip", "identity"]
    assert pair.reason == "the same losses and codes in every epoch"
    assert comparison.line_of["identity"] == comparison.line_of["hardtanh_clip"] == pair.label
    assert pair.label in ("identity = hardtanh_clip", "hardtanh_clip = identity")
    assert len(comparison.lines) == 4
    # The baseline is told first where they are equal.
    assert pair.labels[0] == "identity"
    assert rows_of(comparison)["hardtanh_clip"]["difference"] == 0
    assert np.isnan(rows_of(comparison)["hardtanh_clip"]["p"])


def test_groups_of_the_same_test_metrics_alone_are_not_identical() -> None:
    study = with_curves(identity=[[2.0, 1.0]], none=[[2.0, 1.0]])
    study.runs.loc[1, "test/mse"] = 0.9
    study.curves["test/mse"] = np.nan
    assert compare(study).identical == ()


def test_without_curves_no_groups_are_identical() -> None:
    study = made(identity=[2.0, 1.0], none=[2.0, 1.0])
    comparison = compare(replace(study, curves=study.curves.iloc[:0]))
    assert comparison.identical == ()
    assert len(comparison.groups) == 2


def test_a_clamp_that_never_acts_is_the_reason() -> None:
    study = with_curves(identity=[[2.0, 1.0]], hardtanh_clip=[[2.0, 1.0]])
    study.runs["effect"] = [None, "estimator/clip_fraction"]
    study.curves["estimator/clip_fraction"] = 0.0
    (pair,) = compare(study).identical
    assert pair.reason == "clip_fraction 0 in every epoch"
    study.curves.loc[0, "estimator/clip_fraction"] = 0.1
    (pair,) = compare(study).identical
    assert pair.reason == "the same losses and codes in every epoch"


def test_identical_groups_share_what_they_have_in_common() -> None:
    rows = [
        {"estimator": e, "threshold.value": t, "test/mse": 1 + t}
        for e in ("identity", "hardtanh_clip")
        for t in (0.0, 0.5)
    ]
    labels = [pair.label for pair in compare(study_of(rows)).identical]
    assert labels == [f"identity = hardtanh_clip, threshold.value={t}" for t in ("0", "0.5")]


# --- Mistakes ----------------------------------------------------------------------------------

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"metrics": ["test/mes"]}, "metric: no run has test/mes; did you mean 'test/mse'?"),
    ({"metrics": ["seed"]}, r"metric: no run has seed \(there are: .*test/mse"),
    ({"metrics": ["val/none"]}, "metric: no run has val/none"),
    ({"by": ["estimatro"]}, "estimatro is not a setting .*; did you mean 'estimator'?"),
    ({"by": ["test/mse"]}, "test/mse is not a setting"),
    ({"by": ["estimator", "seed"]}, "by: seed repeats settings: take it out, or out of replic"),
    ({"where": "estimator=identiy"}, "where: no run has estimator=identiy; did you mean 'ident"),
    ({"where": "threshold.value=3"}, r"threshold.value=3 \(there are: 0, 0.5\)"),
    ({"where": "treshold.value=0"}, "where: treshold.value is not a setting; did you mean"),
    ({"where": "a=b=c"}, "where: 'a=b=c' must be KEY=VALUE; separate several with a space"),
    ({"where": "estimator=none estimator=identity"}, "where: estimator is given twice; separate"),
    ({"where": "nonsense"}, "where: 'nonsense' must be KEY=VALUE: no setting has it"),
    ({"where": "finished"}, ""),
    ({"where": "estimator=relu"}, "where: no run has estimator=relu"),
    ({"baseline": "estimator=identity,none"}, "baseline: estimator must have one value, got ident"),
    ({"baseline": "model=mlp"}, "baseline: model is not a setting of these runs"),
    ({"baseline": "estimator=identity", "by": ["threshold.value"]}, "estimator is not a setting"),
    ({"baseline": "estimator="}, r"baseline: no run has estimator= \(there are: hardtanh_clip"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=lambda x: str(x)[:50])
def test_mistakes(options: dict[str, Any], message: str) -> None:
    if not message:
        assert len(compare(study_of(GRID), **options).runs) == len(GRID)
        return
    with pytest.raises(InputError, match=message) as error:
        compare(study_of(GRID), **options)
    assert "\n" not in str(error.value)


def test_a_value_that_two_settings_have() -> None:
    rows: list[Row] = [{"estimator": "none", "threshold": "none", "test/mse": 1.0}]
    rows.append({"test/mse": 2.0})
    with pytest.raises(InputError, match="it is not clear which of estimator, threshold is meant"):
        compare(study_of(rows), where="none")


def test_no_group_has_both() -> None:
    rows: list[Row] = [
        {"estimator": "identity", "threshold.value": 0.0, "test/mse": 1.0},
        {"estimator": "none", "threshold.value": 0.5, "test/mse": 2.0},
    ]
    for option in ("where", "baseline"):
        with pytest.raises(InputError, match=f"{option}: no (finished run|group) .*all of"):
            compare(study_of(rows), **{option: "estimator=none threshold.value=0"})  # type: ignore[arg-type]


def test_nothing_is_finished() -> None:
    left = [{"run": "run0", "state": "failed", "reason": "x"}, {"run": "m", "state": "missing"}]
    with pytest.raises(InputError, match=r"no finished run to compare \(1 failed, 1 missing\)"):
        compare(study_of([{"test/mse": 1.0, "status": "failed"}], left_out=left))


def test_what_is_left_out_is_not_compared() -> None:
    rows = [
        {"estimator": e, "seed": s, "test/mse": 1.0} for e in ("identity", "none") for s in (0, 1)
    ]
    left = [{"run": "run3", "state": "broken", "reason": "metrics.csv: it is empty"}]
    assert rows_of(compare(study_of(rows, left_out=left)))["none"]["n"] == 1


def test_a_setting_that_groups_do_not_share_is_told() -> None:
    """Else the difference of two thresholds looks like one of two estimators."""
    rows = [
        {"estimator": e, "threshold.value": t, "seed": s, "test/mse": t + 0.01 * s}
        for e, t in (("identity", 0.0), ("identity", 0.5), ("none", 0.0))
        for s in range(3)
    ]
    means, uneven, *_ = compare(study_of(rows), by=["estimator"]).notes
    assert means.startswith("Means over threshold.value")
    assert "do not all have the same values of threshold.value" in uneven
    even = compare(study_of(rows), by=["estimator"], where="threshold.value=0")
    assert even.notes == ()


def test_a_setting_that_an_estimator_lacks_is_not_uneven() -> None:
    rows = [
        {"estimator": e, **temperature, "seed": s, "test/mse": 0.1 * s}
        for e, temperature in (
            ("identity", {}),
            ("gumbel_st", {"estimator.temperature": 0.5}),
            ("gumbel_st", {"estimator.temperature": 1.0}),
        )
        for s in range(3)
    ]
    (means,) = compare(study_of(rows), by=["estimator"]).notes
    assert means.startswith("Means over estimator.temperature")


@pytest.mark.parametrize(("seeds", "told"), [(3, True), (5, True), (6, False)])
def test_too_few_pairs_for_a_permutation_test_are_told(seeds: int, told: bool) -> None:
    rows = [
        {"estimator": e, "seed": s, "test/mse": v + 0.01 * s**2 * (1 + v)}
        for e, v in (("identity", 0.0), ("none", 1.0))
        for s in range(seeds)
    ]
    comparison = compare(study_of(rows), interval="bootstrap")
    assert bool(comparison.notes) == told
    assert comparison.table["significant"].any() == (not told)
    if told:
        smallest = 2.0 ** (1 - seeds)
        assert f"of {seeds} pairs has no p below {smallest:g}" in comparison.notes[0]


@pytest.mark.parametrize("interval", ["t", "bootstrap"])
def test_two_pairs_are_not_tested_and_a_reader_is_told(interval: Any) -> None:
    """Two differences that happen to be alike had d_z +692 and were called significant."""
    rows = [
        {"estimator": e, "seed": s, "test/mse": 0.02 + v + 1e-5 * s * (1 + v)}
        for e, v in (("identity", 0.0), ("none", 0.01))
        for s in range(2)
    ]
    comparison = compare(study_of(rows), interval=interval)
    (row,) = (row for row in comparison.table.to_dict("records") if row["pairs"])
    assert row["difference"] == pytest.approx(0.01, rel=1e-3)
    assert np.isnan([row["effect_size"], row["p"], row["p_holm"]]).all()
    assert not comparison.table["significant"].any()
    (note,) = comparison.notes
    assert note.startswith("Two pairs are too few to tell a difference from chance")


@pytest.mark.parametrize(("seeds", "told"), [(3, True), (4, True), (5, False)])
def test_few_pairs_of_a_t_test_are_a_word_of_caution(seeds: int, told: bool) -> None:
    rows = [
        {"estimator": e, "seed": s, "test/mse": v + 0.01 * s**2 * (1 + v)}
        for e, v in (("identity", 0.0), ("none", 1.0))
        for s in range(seeds)
    ]
    comparison = compare(study_of(rows))
    assert comparison.table["significant"].any()
    notes = [
        f"t tests and intervals of {seeds} pairs take differences for normally distributed, which "
        "so few cannot show: read p with caution below n = 5."
    ]
    assert comparison.notes == (tuple(notes) if told else ())


def test_each_metric_has_its_own_direction() -> None:
    rows = [
        {"estimator": e, "seed": s, "test/mse": v + 0.1 * s, "code/entropy": v + 0.01 * s}
        for e, v in (("none", 2.0), ("identity", 1.0))
        for s in range(2)
    ]
    both = ("code/entropy", "test/mse")
    comparison = compare(study_of(rows), metrics=both, better=("higher", "lower"))
    assert [group.label for group in comparison.groups] == ["none", "identity"]  # by the first
    assert (comparison.better, comparison.best_end) == ("higher", "highest")
    assert [comparison.better_of(metric) for metric in both] == ["higher", "lower"]
    assert compare(study_of(rows), metrics=both).directions == ("lower", "lower")


def test_early_stopping_is_told_where_runs_ended_apart() -> None:
    rows = [{**row, "epochs": 3 + i % 2} for i, row in enumerate(GRID)]
    note = compare(study_of(rows)).notes[0]
    assert note.startswith("Runs were stopped after different numbers of epochs, 3 to 4: ")
    planned = [{**row, "trainer.max_epochs": row["epochs"]} for row in rows]
    assert not any("stopped" in note for note in compare(study_of(planned)).notes)


def test_other_hardware_and_precision_are_told() -> None:
    def noted(*machines: Row) -> list[str]:
        rows = [
            {**row, **{f"machine.{key}": value for key, value in machines[i % 2].items()}}
            for i, row in enumerate(GRID)
        ]
        return [note for note in compare(study_of(rows)).notes if "were made with" in note]

    half = len(GRID) // 2
    gpu, cpu = {"device": "NVIDIA H100"}, {"device": "cpu", "processor": "EPYC", "gpus": '["A"]'}
    assert noted(cpu, cpu) == noted(gpu, {**gpu, "processor": "EPYC"}) == []
    assert noted(gpu, cpu) == [
        "Runs were made with different hardware, by which alone they may differ: "
        f"NVIDIA H100 ({half} runs); EPYC ({half} runs)."
    ]
    on, off = {"cudnn_allow_tf32": True}, {"cudnn_allow_tf32": False}
    assert noted(on, on) == noted(on, {}) == []  # a run of before says nothing of it
    assert noted(on, off) == [
        "Runs were made with different precision of float32 (TF32), by which alone they may "
        f"differ: cudnn_allow_tf32=true ({half} runs); cudnn_allow_tf32=false ({half} runs)."
    ]


def test_identical_groups_are_one_candidate() -> None:
    rows = [
        {"estimator": e, "seed": 0, "test/mse": v}
        for e, v in (("identity", 0.1), ("hardtanh_clip", 0.1), ("none", 0.2))
    ]
    assert compare(study_of(rows)).candidates == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": "test/mse"}, "metrics must be one name or several in a list"),
        ({"metrics": []}, "metrics must be one name"),
        ({"better": "best"}, "better must be lower or higher, got 'best'"),
        ({"better": ["lower", "higher"]}, "one for each of test/mse; got lower, higher"),
        (
            {"metrics": ["test/mse"] * 2, "better": ["lower", "higher"]},
            "better: test/mse is given twice",
        ),
        ({"interval": "z"}, "interval must be t or bootstrap, got 'z'"),
        ({"confidence": 95}, "confidence must lie between 0 and 1, got 95"),
    ],
)
def test_options_of_a_call(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(study_of(GRID), **options)


def test_a_metric_given_twice_is_one() -> None:
    once, twice = (compare(study_of(GRID), metrics=["test/mse"] * times) for times in (1, 2))
    assert_frame_equal(once.table, twice.table)


def test_runs_without_the_metric_are_named() -> None:
    rows = [{**row, "test/mse": np.nan} if i == 0 else row for i, row in enumerate(GRID)]
    note, *_ = compare(study_of(rows)).notes
    assert note == f"1 of {len(GRID)} runs have no test/mse: run0."


def test_the_few_of_other_epochs_are_named() -> None:
    rows = [{**row, "trainer.max_epochs": 9 if i == 4 else 5} for i, row in enumerate(GRID)]
    note, *_ = compare(study_of(rows)).notes
    assert note == "trainer.max_epochs is 5, but not of run4 (9)."
    swept = [{**row, "trainer.max_epochs": 5 + i % 2} for i, row in enumerate(GRID)]
    assert not any("trainer.max_epochs is" in note for note in compare(study_of(swept)).notes)


def test_two_estimators_without_a_clamp_have_another_reason() -> None:
    rows = [
        {"estimator": e, "seed": s, "test/mse": 1.0 + s}
        for e in ("logistic", "sigmoid_slope")
        for s in range(2)
    ]
    study = study_of(rows)
    study.curves["estimator/clip_fraction"] = 0.0
    (pair,) = compare(study).identical
    assert pair.reason == "the same losses and codes in every epoch"
    study.runs["effect"] = "estimator/clip_fraction"  # two that clamp, and may do so otherwise
    (pair,) = compare(study).identical
    assert pair.reason == "the same losses and codes in every epoch"


def test_the_tables_are_written(tmp_path: Path) -> None:
    comparison = of_random(random_study(1))
    comparison.write(tmp_path)
    assert_frame_equal(pd.read_parquet(tmp_path / "comparison.parquet"), comparison.table)
    read = pd.read_csv(tmp_path / "comparison.csv", keep_default_na=False, na_values=[""])
    assert list(read) == list(comparison.table)
    np.testing.assert_allclose(read["mean"], comparison.table["mean"], rtol=1e-14)


def test_runs_are_chosen_by_any_of_their_tags() -> None:
    tags = ["first", "first, long run", "second", None]
    study = study_of([{"seed": i, "test/mse": 0.1 + i, "tags": t} for i, t in enumerate(tags)])
    for where, seeds in (
        ("tags=first", [0, 1]),
        ("tags=second,first", [0, 1, 2]),
        ("tags=second", [2]),
    ):
        assert list(compare(study, where=where).runs["seed"]) == seeds
    with pytest.raises(InputError, match="no run has tags=firs; did you mean 'first'"):
        compare(study, where="tags=firs")
