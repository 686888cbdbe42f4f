"""A study judged by an older one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.weightstats import DescrStatsW

from made_study import Row, study_of
from stelab.engine.comparison import Regression, against, compare
from stelab.engine.errors import InputError
from stelab.engine.studies import Study

OLD = [1.0, 2.0, 3.5, 4.0]


def group(estimator: str, values: list[float], metric: str = "test/mse") -> list[Row]:
    return [
        {"estimator": estimator, "seed": seed, metric: value} for seed, value in enumerate(values)
    ]


def judge(new: list[Row], old: list[Row], **options: Any) -> Regression:
    """Judge two studies, whose runs are read together, as the command does."""
    both = study_of([{"study": "new", **row} for row in new] + [{"study": "old", **r} for r in old])
    lost = both.runs[both.runs["status"] != "finished"]
    left = lost.assign(state=lost["status"], reason="")[["study", "run", "state", "reason"]]
    both = Study(both.runs, both.curves, left, both.swept)
    options = {"by": ["estimator"], **options}
    return against(compare(both.only(["new"]), **options), compare(both.only(["old"]), **options))


def verdict(regression: Regression) -> str:
    (row,) = regression.table.to_dict("records")
    return str(row["verdict"])


@pytest.mark.parametrize("interval", ["t", "bootstrap"])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([0.1, 0.2, 0.1, 0.2], "worse"),
        ([-0.1, -0.2, -0.1, -0.2], "better"),
        ([0.1, -0.2, 0.1, -0.1], "no difference shown"),
        ([0, 0, 0, 0], "equal"),
        ([0.5, 0.5, 0.5, 0.5], "worse"),  # by the same in all pairs
        ([-0.5, -0.5, -0.5, -0.5], "better"),
        ([0, 1e-16, 0, 0], "equal"),  # 2 + 1e-16 is 2
        ([0, 4.5e-16, 0, 0], "no difference shown"),  # rounding
    ],
)
def test_verdicts(changes: list[float], expected: str, interval: Any) -> None:
    """The bootstrap has eight pairs: of four it would not be believed."""
    times = 2 if interval == "bootstrap" else 1
    olds = OLD * times
    new = [old + change for old, change in zip(olds, changes * times, strict=True)]
    result = judge(group("none", new), group("none", olds), interval=interval)
    assert verdict(result) == expected
    assert len(result.alarms) == (expected == "worse")
    other_way = {"worse": "better", "better": "worse"}.get(expected, expected)
    higher = judge(group("none", new), group("none", olds), interval=interval, better="higher")
    assert verdict(higher) == other_way
    assert len(higher.alarms) == (other_way == "worse")


def test_the_numbers() -> None:
    new = [1.1, 2.3, 3.4, 4.4]
    (row,) = judge(group("none", new), group("none", OLD), confidence=0.9).table.to_dict("records")
    theirs = DescrStatsW(np.subtract(new, OLD))
    assert (row["group"], row["estimator"], row["metric"]) == ("none", "none", "test/mse")
    assert (row["pairs"], row["old"], row["new"]) == pytest.approx((4, 2.625, 2.8))
    assert row["difference"] == pytest.approx(theirs.mean)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(
        theirs.tconfint_mean(0.1)
    )
    assert row["p"] == pytest.approx(theirs.ttest_mean(0)[1])


def test_only_seeds_that_both_have_are_judged() -> None:
    new = [{**row, "seed": row["seed"] + 1} for row in group("none", [2.1, 3.6, 4.3, 99.0])]
    (row,) = judge(new, group("none", OLD)).table.to_dict("records")
    assert (row["pairs"], row["old"], row["new"]) == pytest.approx((3, 9.5 / 3, 10 / 3))


def test_each_metric_is_judged_by_its_own_direction() -> None:
    def both(shift: float) -> list[Row]:
        values = [value + shift * (1 + value / 100) for value in OLD]
        return [{**row, "val/mse": row["test/mse"]} for row in group("none", values)]

    options: Any = {"metrics": ["test/mse", "val/mse"], "better": ["lower", "higher"]}
    assert list(judge(both(1), both(0), **options).table["verdict"]) == ["worse", "better"]
    assert list(judge(both(-1), both(0), **options).table["verdict"]) == ["better", "worse"]


def test_each_setting_is_judged_by_itself() -> None:
    worse, same = [value + 0.5 for value in OLD], list(OLD)
    new = [*group("none", worse), *group("identity", same), *group("relu", OLD)]
    old = [*group("none", OLD), *group("identity", OLD), *group("arm", OLD)]
    result = judge(new, old)
    verdicts = dict(zip(result.table["group"], result.table["verdict"], strict=True))
    assert verdicts == {"none": "worse", "identity": "equal"}
    assert list(result.alarms["group"]) == ["none"]
    assert sorted(result.unmatched) == ["arm: only in against", "relu: only in the study"]


def test_each_metric_is_judged() -> None:
    new = [{**row, "val/mse": -row["test/mse"]} for row in group("none", [2.0, 3.0, 4.5, 5.0])]
    old = [{**row, "val/mse": -row["test/mse"]} for row in group("none", OLD)]
    result = judge(new, old, metrics=["test/mse", "val/mse"])
    assert list(result.table["metric"]) == ["test/mse", "val/mse"]
    assert list(result.table["verdict"]) == ["worse", "better"]


def test_a_failed_run_is_a_regression() -> None:
    lost = {"estimator": "none", "seed": 9, "status": "failed"}
    result = judge([*group("none", OLD), lost], group("none", OLD))
    assert verdict(result) == "failed"
    assert len(result.alarms) == 1
    # Where all of a setting failed, too.
    all_lost = {"estimator": "none", "seed": 0, "status": "failed"}
    new = [*group("identity", OLD), all_lost]
    result = judge(new, [*group("identity", OLD), *group("none", OLD)])
    verdicts = dict(zip(result.table["group"], result.table["verdict"], strict=True))
    assert verdicts == {"identity": "equal", "none": "failed"}
    (row,) = result.alarms.to_dict("records")
    assert (row["group"], row["pairs"]) == ("none", 0)
    # What the older study does not have is told.
    result = judge(new, group("identity", OLD))
    assert result.unmatched == ("none: only in the study",)
    # That the older one failed is no regression.
    result = judge(group("none", OLD), [*group("none", OLD), lost])
    assert verdict(result) == "equal"


@pytest.mark.parametrize(
    ("status", "expected"),
    [("failed", "failed"), ("broken", "failed"), ("interrupted", "lost"), ("missing", "lost")],
)
def test_a_setting_that_was_lost_does_not_pass(status: str, expected: str) -> None:
    gone = [{**row, "status": status} for row in group("none", OLD)]
    old = [*group("identity", OLD), *group("none", OLD)]
    result = judge([*group("identity", OLD), *gone], old)
    verdicts = dict(zip(result.table["group"], result.table["verdict"], strict=True))
    assert verdicts == {"identity": "equal", "none": expected}
    assert list(result.alarms["group"]) == ["none"]
    # One that was not asked for does not count, one that was never run is listed.
    asked = judge([*group("identity", OLD), *gone], old, where="estimator=identity")
    assert asked.alarms.empty
    subset = judge(group("identity", OLD), old)
    assert subset.alarms.empty
    assert subset.unmatched == ("none: only in against",)


def test_a_setting_without_the_metric_is_lost() -> None:
    without = [{**row, "val/mse": 1.0, "test/mse": np.nan} for row in group("none", OLD)]
    old = [*group("identity", OLD), *group("none", OLD)]
    result = judge([*group("identity", OLD), *without], old)
    assert list(result.alarms["verdict"]) == ["lost"]


@pytest.mark.parametrize(
    ("new", "old", "message"),
    [
        (group("none", [1.0]), group("none", [2.0]), "not judged: n = 1, no interval"),
        (group("none", [1.0]), group("relu", [1.0]), "they share no setting"),
        (
            [{**row, "seed": row["seed"] + 7} for row in group("none", OLD)],
            group("none", OLD),
            "not judged: no replicate in common",
        ),
    ],
)
def test_nothing_can_be_judged(new: list[Row], old: list[Row], message: str) -> None:
    with pytest.raises(InputError, match=f"nothing can be judged: {message}") as error:
        judge(new, old)
    assert "(the study has none; against has " in str(error.value)


@pytest.mark.parametrize(
    ("pairs", "interval", "expected"),
    [
        (2, "t", "not judged: n = 2, too few to tell a difference from chance"),
        (5, "bootstrap", "not judged: a bootstrap needs 6 pairs"),
    ],
)
def test_few_pairs_are_not_judged(pairs: int, interval: str, expected: str) -> None:
    old, new = [1.0 + i / 8 for i in range(pairs)], [2.0 + i / 4 for i in range(pairs)]
    result = judge(
        [*group("none", new), *group("relu", OLD)],
        [*group("none", old), *group("relu", OLD)],
        interval=interval,
    )
    assert list(result.table["verdict"]) == [expected, "equal"]
    assert result.alarms.empty


def test_one_pair_that_is_equal_is_judged() -> None:
    assert verdict(judge(group("none", [1.0]), group("none", [1.0]))) == "equal"
    mixed = judge(
        [*group("none", [1.0]), *group("relu", OLD)], [*group("none", [2.0]), *group("relu", OLD)]
    )
    assert list(mixed.table["verdict"]) == ["not judged: n = 1, no interval", "equal"]
    assert isinstance(mixed.alarms, pd.DataFrame) and mixed.alarms.empty
