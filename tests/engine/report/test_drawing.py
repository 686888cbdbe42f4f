"""Logarithmic axes: ticks that tell where the curve is, whatever the range."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from stelab.engine.report.drawing import set_log


@pytest.mark.parametrize("ratio", [1.02, 1.3, 1.9, 2, 3, 5.9, 7, 29, 31, 99, 101, 1e3, 1e6])
def test_a_logarithmic_axis_has_ticks_wherever_it_begins(ratio: float) -> None:
    for low in np.geomspace(0.01, 0.1, 23):
        figure = Figure(figsize=(2.8, 3))
        ax = figure.subplots()
        ax.plot([1, 2], [low, ratio * low])
        set_log(ax, "y")
        figure.draw_without_rendering()
        bottom, top = ax.get_ylim()
        seen = [t for t in ax.yaxis.get_major_ticks() if bottom <= t.get_loc() <= top]
        labels = [tick.label1.get_text() for tick in seen]
        assert 2 <= len(labels) <= 9, (low, labels)
        assert [float(label) for label in labels] == pytest.approx([t.get_loc() for t in seen])
