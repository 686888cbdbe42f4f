"""Runs as points: seconds and swept numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from made_study import make_study
from stelab.engine.comparison import compare
from stelab.engine.comparison.notes import machines
from stelab.engine.report.scatters import draw_slices, draw_wall_clock

TWO = [{"estimator": "identity"}, {"estimator": "none"}]


def test_each_run_is_a_point_at_its_seconds() -> None:
    picture = draw_wall_clock(compare(make_study(TWO)))
    assert picture is not None
    (ax,) = picture.figure.axes
    one, two = (np.asarray(line.get_xydata()).tolist() for line in ax.lines)
    assert one == [[10, 0.5], [11, 1], [12, 1.5]]
    assert two == [[20, 1], [21, 2], [22, 3]]
    assert [line.get_marker() for line in ax.lines] == ["o", "s"]
    (legend,) = picture.figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["identity (baseline)", "none"]
    assert picture.drawn.title == "test/mse against seconds of training"
    assert picture.drawn.text == "A point a run, on Abacus. Lower left is cheap and good."


def test_no_seconds_no_picture() -> None:
    study = make_study(TWO)
    assert draw_wall_clock(compare(study, metrics=["timings.seconds"])) is None
    runs = study.runs.assign(**{"timings.seconds": np.nan})
    assert draw_wall_clock(compare(replace(study, runs=runs))) is None


def test_machines_are_named_once_with_their_gpus() -> None:
    runs = pd.DataFrame(
        {
            "machine.processor": ["Abacus", "Abacus", "Loom", None],
            "machine.gpus": ["[]", "[]", '["Jet"]', None],
        }
    )
    assert machines(runs) == "Abacus; Loom, Jet; an unknown machine"
    assert machines(pd.DataFrame({"run": ["a"]})) == "an unknown machine"
    used = {"machine.device": ["cpu", "Jet"], "machine.gpus": ['["Jet"]', '["Jet"]']}
    assert machines(runs[:2].assign(**used)) == "Abacus; Jet"


def lr_study(values: list[float], **more: Any) -> list[dict[str, Any]]:
    return [{"optimizer.lr": v, "level": 1 + i, **more} for i, v in enumerate(values)]


@pytest.mark.parametrize(("largest", "scale"), [(0.006, "linear"), (0.1, "log")])
def test_a_slice_a_swept_number(largest: float, scale: str) -> None:
    rates = [0.003, 0.002, 0.001, 0.004, 0.005, largest]
    picture = draw_slices(compare(make_study(lr_study(rates), seeds=1)))
    assert picture is not None
    (ax,) = picture.figure.axes
    *dots, best = ax.lines
    points = [point for line in dots for point in np.asarray(line.get_xydata()).tolist()]
    assert sorted(points) == [
        [0.001, 1.5], [0.002, 1], [0.003, 0.5], [0.004, 2], [0.005, 2.5], [largest, 3]
    ]  # fmt: skip
    assert np.asarray(best.get_xydata()).tolist() == [[0.003, 0.5]]
    assert best.get_marker() == "*"
    assert ax.get_xscale() == scale
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("optimizer.lr", "test/mse")
    assert picture.drawn.text == (
        "A point a run. The star is run-0-s0, selected as the best of 6 runs by this very number: "
        "0.5000 at optimizer.lr=0.003."
    )


def test_only_numbers_of_many_values_that_do_not_repeat_are_sliced() -> None:
    assert draw_slices(compare(make_study(lr_study([0.001, 0.002, 0.003, 0.004, 0.005])))) is None
    assert draw_slices(compare(make_study(TWO, seeds=7))) is None
    texts = [{"estimator": f"e{i}"} for i in range(7)]
    assert draw_slices(compare(make_study(texts))) is None


def test_three_keys_stand_in_two_rows() -> None:
    settings = [
        {"optimizer.lr": i / 100, "model.bits": 2**i, "threshold.value": -i} for i in range(1, 8)
    ]
    picture = draw_slices(compare(make_study(settings, seeds=1), better="higher"))
    assert picture is not None
    axes = picture.figure.axes
    assert [ax.get_xlabel() for ax in axes] == ["model.bits", "optimizer.lr", "threshold.value"]
    assert [ax.get_ylabel() for ax in axes] == ["test/mse", "", "test/mse"]
    assert [ax.get_xscale() for ax in axes] == ["log", "linear", "linear"]
    assert np.asarray(axes[0].lines[1].get_xydata()).tolist() == [[128, 3.5]]
