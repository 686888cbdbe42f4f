"""All figures that the tables of a comparison allow, and what a sweep leaves of them."""

from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name

from stelab.engine.comparison import Comparison
from stelab.engine.errors import InputError
from stelab.engine.project import project
from stelab.engine.report.curves import draw_curves, draw_panels
from stelab.engine.report.drawing import Drawn, style
from stelab.engine.report.forest_plot import draw_forest_plot
from stelab.engine.report.heatmap import draw_heatmap
from stelab.engine.report.scatters import draw_slices, draw_wall_clock


def draw_figures(comparison: Comparison, folder: Path, *, log_scale: bool) -> list[Drawn]:
    """Draw a comparison's figures from its tables alone, and remove those of an earlier one."""
    ours = ("curves", "points", "heatmap", *project().panels, "wall_clock", "slices")
    for name in (*ours, "reconstructions"):
        for suffix in (".svg", ".png"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    with style():
        pictures = (
            draw_curves(comparison, log_scale=log_scale),
            draw_forest_plot(comparison),
            draw_heatmap(comparison),
            *(draw_panels(comparison, name) for name in project().panels),
            draw_wall_clock(comparison),
            draw_slices(comparison),
        )
        return [picture.save(folder) for picture in pictures if picture]


def draw_study(
    study: Path, comparison: Comparison, *, trust: Sequence[str] = ()
) -> tuple[list[Path], list[str]]:
    """Draw ``loss.png`` and ``reconstructions.png``; return those, and what is missing."""
    loss, reconstructions = files = study / "loss.png", study / "reconstructions.png"
    for file in files:
        file.unlink(missing_ok=True)
    with style():
        if curves := draw_curves(comparison, log_scale=True):
            curves.save_png(loss)
        try:
            picture = resolve_name(project().reconstructions)(comparison, trust=trust)
            picture.save_png(reconstructions)
            missing = [*picture.drawn.missing]
        except InputError as error:
            missing = [str(error)]
    return [file for file in files if file.exists()], missing
