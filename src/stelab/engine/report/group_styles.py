"""The lines of a figure: which groups it shows, by which colour, dashes and marker."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stelab.engine.comparison import Comparison
from stelab.engine.report.drawing import COLOURS, DASHES, FILLS, MARKERS, fold

MOST = 14  # lines that can be told apart; of more, the best and the baseline are shown
_BEST = 12
_NAMED = 6


@dataclass(frozen=True)
class GroupStyle:
    """How a group, or several that are the same number by number, looks in every figure."""

    label: str  # one of `Comparison.lines`
    is_baseline: bool
    colour: str
    dashes: str
    marker: str
    fill: str  # how much of a marker is filled

    @property
    def points(self) -> dict[str, Any]:
        """Return the keywords that matplotlib takes for markers without a line."""
        fill = {"fillstyle": self.fill, "markerfacecoloralt": "white"}
        return {"color": self.colour, "linestyle": "none", "marker": self.marker, **fill}

    @property
    def style(self) -> dict[str, Any]:
        """Return the keywords that matplotlib takes for a line with markers."""
        return {**self.points, "linestyle": self.dashes}

    def name(self, width: int = 58) -> str:
        """Return the label, folded to lines of `width` characters; a baseline says it is one."""
        return fold(f"{self.label} (baseline)" if self.is_baseline else self.label, width)


def all_styles(comparison: Comparison) -> list[GroupStyle]:
    """Return all lines, best first; their looks repeat where there are many."""
    baselines = {comparison.line_of[name] for name in comparison.table["baseline"] if name}
    looks = zip(comparison.lines, _looks(comparison), strict=True)
    return [GroupStyle(label, label in baselines, *look) for label, look in looks]


def shown_styles(comparison: Comparison) -> list[GroupStyle]:
    """Return the lines that can be told apart in one figure, best first."""
    styles = all_styles(comparison)
    if len(styles) <= MOST:
        return styles
    best, rest = styles[:_BEST], styles[_BEST:]
    return best + [style for style in rest if style.is_baseline][: MOST - _BEST]


def tell_not_shown(comparison: Comparison) -> str:
    """Write how many lines `shown_styles` leaves out; empty if none."""
    shown = len(shown_styles(comparison))
    baseline = "" if shown == _BEST else " and the baseline"
    hidden = len(comparison.lines) - shown
    return f"Shown are the best {_BEST}{baseline}; {hidden} more are not shown." if hidden else ""


def tell_same(comparison: Comparison, styles: Sequence[GroupStyle], mark: str) -> str:
    """Write which marks (lines, rows or columns) stand for several groups, and why."""
    labels = [style.label for style in styles]
    why = "; ".join(str(same) for same in comparison.identical if same.label in labels)
    return f"Groups that are the same, number by number, are one {mark} ({why})." if why else ""


def tell_single(labels: Sequence[str], of: int, mark: str) -> str:
    """Write which of so many lines have one value, so no mark (band or bar) of their interval."""
    names = "; ".join(labels) if len(labels) <= _NAMED else f"{len(labels)} of {of}"
    ending = "" if len(labels) == of else f": {names}"
    return f"No {mark} where n = 1{ending}." if labels else ""


def _looks(comparison: Comparison) -> list[tuple[str, ...]]:
    """Let colour and marker tell the first of two keys, dashes and fill the second, if they can."""
    if len(comparison.by) == 2:
        settings = {
            comparison.line_of[group.label]: tuple(group.settings.values())
            for group in reversed(comparison.groups)
        }
        pairs = [settings[label] for label in comparison.lines]
        firsts, seconds = (list(dict.fromkeys(values)) for values in zip(*pairs, strict=True))
        if len(firsts) <= len(COLOURS) and len(seconds) <= len(DASHES):
            return [_look(firsts.index(one), seconds.index(other)) for one, other in pairs]
    return [_look(i, i) for i in range(len(comparison.lines))]


def _look(one: int, other: int) -> tuple[str, ...]:
    looks = ((COLOURS, one), (DASHES, other), (MARKERS, one), (FILLS, other))
    return tuple(choices[i % len(choices)] for choices, i in looks)
