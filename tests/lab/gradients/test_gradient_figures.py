"""Measurements in the terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

import stelab
from stelab.engine.report.console import PlainConsole
from stelab.lab.gradients.figures import draw_measurements, print_measurements
from stelab.lab.gradients.sweep import Row, measure_all


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    asked = ("gumbel_st estimator.temperature=0.1", "gumbel_st", "reinforce", "dsq")
    settings = [("bits=4", "samples=200", f"estimator={each}") for each in asked]
    words = [" ".join(each).split() for each in settings]
    return measure_all([stelab.compose(*each, command="gradients") for each in words])


@pytest.mark.parametrize("width", [72, 80, 120, 200])
def test_no_terminal_loses_a_name_or_a_number(rows: list[Row], width: int) -> None:
    file = io.StringIO()
    to = PlainConsole(width=width, force_terminal=True, color_system=None, file=file)
    print_measurements(rows, to=to)
    words = file.getvalue().split()
    assert max(map(len, file.getvalue().splitlines())) <= width
    for row in rows:
        m = row.measurement
        numbers = (m.variance, m.snr, m.cosine, m.sample_cosine, m.scaled_bias, m.scaled_variance)
        expected = [*(f"{value:.3g}" for value in numbers), f"{m.mse:.4g}", f"{m.bias:.3f}"]
        assert {*expected, row.reference, f"{m.microseconds:.1f}"} <= {*words}
        assert not m.samples or f"[{m.bias_low:.3f}," in words
        assert row.estimator in words


@pytest.mark.parametrize("names", [["identity"], ["reinforce"], ["identity", "gumbel_st"]])
def test_all_figures_are_drawn_of_any_kind_of_estimator(names: list[str], tmp_path: Path) -> None:
    lines = ("bits=4", "samples=20")
    jobs = [stelab.compose(*lines, f"estimator={name}", command="gradients") for name in names]
    paths = draw_measurements(tmp_path, measure_all(jobs))
    assert [path.name for path in paths] == ["bias_variance.png", "errors.png"]
    assert all(path.stat().st_size > 5_000 for path in paths)
