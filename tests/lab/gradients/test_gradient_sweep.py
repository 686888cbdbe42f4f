"""Tables of measurements."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import stelab
from stelab.lab.gradients.sweep import Row, measure_all, write_tables


def jobs(*estimators: str, bits: int = 4) -> list[Row]:
    configurations = [
        stelab.compose(*estimator.split(), f"bits={bits}", "samples=200", command="gradients")
        for estimator in estimators
    ]
    return measure_all(configurations)


def numbers(rows: list[Row]) -> dict[tuple[str, str], tuple[float, ...]]:
    return {
        (row.label, row.reference): (row.measurement.bias, row.measurement.variance) for row in rows
    }


def test_a_row_does_not_depend_on_the_other_jobs() -> None:
    names = ("estimator=relax", "estimator=disarm", "estimator=gumbel_st", "estimator=dsq")
    together, reversed_ = numbers(jobs(*names)), numbers(jobs(*names[::-1]))
    assert together == reversed_
    for name in names:
        assert numbers(jobs(name)).items() <= together.items()


def test_rows_are_sorted_by_mse() -> None:
    errors = [row.measurement.mse for row in jobs("estimator=none", "estimator=mvd")]
    assert errors == sorted(errors)


def test_labels_say_what_differs() -> None:
    rows = jobs(
        "estimator=gumbel_st estimator.temperature=0.5",
        "estimator=gumbel_st estimator.temperature=1.0",
        "estimator=identity",
    )
    labels = {row.label: row.swept for row in rows}
    assert labels == {
        "gumbel_st temperature=0.5": {"temperature": 0.5},
        "gumbel_st temperature=1.0": {"temperature": 1.0},
        "identity": {},
    }


def test_schedules_stand_where_they_are_told() -> None:
    for estimator in ("ede", "progressive"):
        begin, end = (
            jobs(f"estimator={estimator} progress={progress}")[0].measurement.bias
            for progress in ("0.0", "1.0")
        )
        assert begin != end


def test_tables_hold_every_number(tmp_path: Path) -> None:
    rows = jobs("estimator=reinmax", "estimator=approx_sign")
    write_tables(tmp_path, rows)
    with (tmp_path / "gradients.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["label"], line["reference"]) for line in lines] == [
        (row.label, row.reference) for row in rows
    ]
    for line, row in zip(lines, rows, strict=True):
        assert float(line["bias"]) == row.measurement.bias
        assert float(line["snr"]) == row.measurement.snr
    with (tmp_path / "per_bit.csv").open() as file:
        bits = list(csv.DictReader(file))
    assert len(bits) == 4 * len(rows)
    for row in rows:
        mine = [b for b in bits if (b["label"], b["reference"]) == (row.label, row.reference)]
        norm = math.sqrt(sum(float(b["exact"]) ** 2 for b in mine))
        variance = sum(float(b["variances"]) for b in mine) / norm**2
        assert math.isclose(variance, row.measurement.variance, rel_tol=1e-12)
