"""Means and intervals of curves, epoch by epoch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from statsmodels.stats.weightstats import DescrStatsW

from made_study import Row, random_study, study_of
from stelab.engine.comparison import compare
from stelab.engine.studies import Study

COLUMNS = ["group", "epoch", "n", "mean", "low", "high"]


def curves(**groups: list[list[float]]) -> Study:
    rows: list[Row] = [
        {"estimator": name, "seed": seed, "test/mse": curve[-1], "curve": curve}
        for name, found in groups.items()
        for seed, curve in enumerate(found)
    ]
    return study_of(rows)


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_each_epoch_is_statsmodels_interval(confidence: float) -> None:
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=(n, 4)) for name, n in (("identity", 5), ("none", 2))}
    study = curves(**{name: [list(map(float, row)) for row in v] for name, v in values.items()})
    table = compare(study, confidence=confidence).mean_curves("val/mse")
    assert list(table) == COLUMNS
    assert len(table) == 8
    for row in table.to_dict("records"):
        sample = values[row["group"]][:, row["epoch"] - 1]
        theirs = DescrStatsW(sample)
        assert (row["n"], row["mean"]) == pytest.approx((len(sample), theirs.mean), rel=1e-9)
        assert (row["low"], row["high"]) == pytest.approx(
            theirs.tconfint_mean(1 - confidence), rel=1e-9
        )


def test_one_replicate_has_no_interval() -> None:
    table = compare(curves(identity=[[3.0, 2.0]], none=[[5.0, 4.0]])).mean_curves("val/mse")
    assert list(table["n"]) == [1, 1, 1, 1]
    assert list(table["mean"]) == [3, 2, 5, 4]
    assert table[["low", "high"]].isna().all(axis=None)


def test_a_curve_ends_with_the_first_of_its_runs() -> None:
    """The one that went on was worse: its values alone would let the mean jump."""
    groups = {"identity": [[3.0, 2.0], [4.0, 3.0, 2.9]], "none": [[5.0, 5.0, 5.0]]}
    table = compare(curves(**groups)).mean_curves("val/mse")
    assert list(table["n"]) == [2, 2, 1, 1, 1]
    assert list(table["mean"]) == [3.5, 2.5, 5, 5, 5]


def test_identical_groups_are_one_group_and_count_once() -> None:
    same = [[3.0, 2.0], [5.0, 3.0], [4.0, 4.0]]
    comparison = compare(curves(identity=same, hardtanh_clip=same, none=same[::-1]))
    table = comparison.mean_curves("val/mse")
    assert sorted(set(table["group"])) == sorted(["identity = hardtanh_clip", "none"])
    shared = table[table["group"] == "identity = hardtanh_clip"]
    alone = compare(curves(identity=same)).mean_curves("val/mse")
    assert_frame_equal(
        shared[COLUMNS[1:]].reset_index(drop=True), alone[COLUMNS[1:]], check_exact=True
    )


def test_a_setting_that_is_left_out_is_averaged_replicate_by_replicate() -> None:
    rows: list[Row] = [
        {
            "estimator": "none",
            "threshold.value": t,
            "seed": s,
            "test/mse": 1.0,
            "curve": [t + 10 * s],
        }
        for t in (0.0, 1.0)
        for s in range(3)
    ]
    (row,) = compare(study_of(rows), by=[]).mean_curves("val/mse").to_dict("records")
    theirs = DescrStatsW([0.5, 10.5, 20.5])
    assert (row["n"], row["mean"]) == (3, 10.5)
    assert (row["low"], row["high"]) == pytest.approx(theirs.tconfint_mean(0.05))


def test_a_metric_that_not_every_epoch_or_run_has() -> None:
    study = curves(identity=[[3.0, 2.0], [4.0, 3.0]], none=[[3.0, 2.0]])
    study.curves["code/flip_ratio"] = [np.nan, 0.2, np.nan, 0.4, np.nan, np.nan]
    table = compare(study).mean_curves("code/flip_ratio")
    assert table.to_dict("records")[0]["mean"] == pytest.approx(0.3)
    assert list(table["epoch"]) == [2]
    nothing = compare(study).mean_curves("code/unknown")
    assert list(nothing) == COLUMNS
    assert nothing.empty


def test_equal_curves_have_an_interval_of_no_width() -> None:
    table = compare(curves(identity=[[2.0, 1.0]] * 3)).mean_curves("val/mse")
    assert list(table["low"]) == list(table["mean"]) == list(table["high"]) == [2.0, 1.0]


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_runs_and_their_names_do_not_matter(seed: int) -> None:
    study = random_study(seed)
    rng = np.random.default_rng(seed)
    new = dict(zip(study.runs["run"], rng.permutation(study.runs["run"]), strict=True))
    tables = [
        table.assign(run=table["run"].map(new)).iloc[rng.permutation(len(table))]
        for table in (study.runs, study.curves)
    ]
    other = replace(study, runs=tables[0], curves=tables[1])
    for by in (study.swept[:0], [key for key in study.swept if key != "seed"]):
        one, two = (compare(which, by=by).mean_curves("val/mse") for which in (study, other))
        assert_frame_equal(one, two, check_exact=True)
        assert isinstance(one, pd.DataFrame) and len(one)
