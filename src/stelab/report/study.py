"""What is drawn in a study's folder when its sweep has ended."""

from __future__ import annotations

from pathlib import Path

from stelab.comparison.compare import Comparison
from stelab.report.curves import draw_curves
from stelab.report.drawing import Picture, style
from stelab.report.reconstructions import picture_reconstructions


def draw_study(study: Path, comparison: Comparison) -> None:
    """Draw ``loss.png`` and ``reconstructions.png``, as far as the study has what they need.

    Args:
        study: The study's folder.
        comparison: Its runs, compared.
    """
    with style():
        if curves := draw_curves(comparison, log_scale=True):
            curves.save_png(study / "loss.png")
        if isinstance(images := picture_reconstructions(comparison), Picture):
            images.save_png(study / "reconstructions.png")
