"""How figures look and are saved: as SVG and PNG, with matplotlib's object interface alone."""

import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import AutoLocator, LogLocator, NullLocator

from stelab.engine.files import write_atomically
from stelab.engine.terminal import visible

# Okabe and Ito's colours, told apart by colour-blind readers, with dashes and markers for print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
FILLS = ("full", "none", "left", "bottom")

WIDTH, WIDE = 3.5, 7.16  # inches: one column of a paper of two, and both
DPI = 300
# Where ticks are in a decade, for axes whose ends are at most so many times apart.
_TICKS = {6: (1, 1.5, 2, 2.5, 3, 4, 6, 8), 30: (1, 2, 5), 100: (1, 3), math.inf: (1,)}
_AMPLE = 50.0  # inches: higher than the labels and the legend of any figure


@dataclass(frozen=True)
class Drawn:
    """A figure in a folder: ``<name>.svg`` and ``<name>.png``."""

    name: str  # e.g. "curves"
    title: str  # what is drawn, also for those who cannot see it
    text: str  # its marks and what to read from it, in sentences that do not repeat the title
    wide: bool = False  # as both columns of a paper, and as the page
    missing: tuple[str, ...] = ()  # sentences on what could not be drawn


@dataclass(frozen=True)
class Picture:
    """A figure that is not saved yet, and what `Drawn` says about it."""

    figure: Figure
    drawn: Drawn

    def save(self, folder: Path) -> Drawn:
        """Write ``<name>.svg`` and ``<name>.png``: the same bytes for the same figure."""
        name, svg = self.drawn.name, StringIO()
        metadata = {"Date": None, "Creator": None}
        self.figure.savefig(svg, format="svg", dpi=DPI, metadata=metadata)
        # Several may stand in one page, each with ids of its own.
        text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", svg.getvalue())
        write_atomically(folder / f"{name}.svg", text)
        self.save_png(folder / f"{name}.png")
        return self.drawn

    def save_png(self, path: Path) -> None:
        """Write the PNG alone."""
        write_figure(self.figure, path, dpi=DPI, metadata={"Software": None})


def write_figure(figure: Figure, path: Path, **options: Any) -> None:
    """Write a PNG to a name, whatever is there; where that is a link, not to where it leads."""
    file = BytesIO()
    figure.savefig(file, format="png", **options)
    write_atomically(path, file.getbuffer())


@contextmanager
def style() -> Iterator[None]:
    """Give the context in which figures must be drawn and saved."""
    path = Path(__file__).with_name("figures.mplstyle")
    parameters = mpl.rc_params_from_file(path, use_default_template=False)
    with mpl.rc_context(parameters), warnings.catch_warnings():
        # Of a name in a script that the font lacks: a figure shows boxes, and its page the name.
        for message in ("Glyph .* missing from font", "Matplotlib currently does not support"):
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        yield


def panels(
    rows: int = 1, columns: int = 1, *, width: float = WIDTH, **share: Any
) -> tuple[Figure, list[Axes]]:
    """Lay out panels in a figure, `width` inches wide, that `fit` will make as high as needed."""
    figure = Figure(figsize=(width, _AMPLE))
    axes = figure.subplots(rows, columns, squeeze=False, **share)
    return figure, list(axes.flat)


def fit(figure: Figure, *, height: float, width: tuple[float, float] = (0.0, math.inf)) -> None:
    """Size a finished figure of `panels` by its labels, its legend and these inches of a panel."""
    for text in figure.findobj(Text):  # no control character may stand in an SVG
        assert isinstance(text, Text)
        text.set_text(visible(text.get_text()))
    grid = figure.axes[0].get_gridspec()
    assert grid
    rows, columns = grid.get_geometry()
    layout = ConstrainedLayoutEngine(hspace=0, wspace=0)
    layout.execute(figure)
    box = figure.dpi_scale_trans.inverted().transform_bbox(figure.axes[0].bbox)
    figure.set_figheight(figure.get_figheight() + rows * (height - box.height))
    wanted = min(max(box.width, width[0]), width[1])
    figure.set_figwidth(figure.get_figwidth() + columns * (wanted - box.width))
    layout.execute(figure)


def fold(text: str, width: int) -> str:
    """Fold a name to lines of `width` characters; what is longer than any label is cut."""
    return textwrap.fill(visible(text), width, break_on_hyphens=False, max_lines=8, placeholder="…")


def add_legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Write the legend below the axes, where it hides no curve."""
    longest = max(len(line) for label in labels for line in label.split("\n"))
    columns = max(1, round(figure.get_figwidth() / WIDTH)) * (2 if longest <= 20 else 1)
    figure.legend(handles, labels, loc="outside lower left", ncols=columns)


def set_log(ax: Axes, name: Literal["x", "y"]) -> None:
    """Make an axis that has its data logarithmic; ticks say 0.2, read faster than 2×10⁻¹."""
    axis = ax.xaxis if name == "x" else ax.yaxis
    ax.set(**{f"{name}scale": "log"})
    low, high = axis.get_view_interval()
    subs = next(subs for most, subs in _TICKS.items() if high <= most * low)
    # From 0.94 to 1 there is a single round number, and a logarithm is nearly a line.
    axis.set_major_locator(AutoLocator() if high < 2 * low else LogLocator(subs=subs))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def join_sentences(*sentences: str) -> str:
    """Write a figure's text of the sentences that apply; others are empty."""
    return " ".join(filter(None, sentences))
