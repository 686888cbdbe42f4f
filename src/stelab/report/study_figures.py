"""All figures that the tables of a comparison allow."""

from __future__ import annotations

from pathlib import Path

from stelab.comparison.compare import Comparison
from stelab.report.curves import draw_code_health, draw_curves
from stelab.report.drawing import Drawn, style
from stelab.report.heatmap import draw_heatmap
from stelab.report.points import draw_points
from stelab.report.scatters import draw_slices, draw_wall_clock


def draw_figures(comparison: Comparison, folder: Path, *, log_scale: bool) -> list[Drawn]:
    """Draw a comparison's figures from its tables alone; return those that there are.

    Args:
        comparison: Its first metric is drawn.
        folder: Where they are written, each as SVG and PNG; the same bytes for the same tables.
        log_scale: Whether the metric's curves have a logarithmic axis.
    """
    with style():
        pictures = (
            draw_curves(comparison, log_scale=log_scale),
            draw_points(comparison),
            draw_heatmap(comparison),
            draw_code_health(comparison),
            draw_wall_clock(comparison),
            draw_slices(comparison),
        )
        return [picture.save(folder) for picture in pictures if picture]
