"""The lines of a figure: which groups it shows, by which colour, dashes and marker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stelab.engine.comparison import Comparison
from stelab.engine.report.drawing import COLOURS, DASHES, FILLS, MARKERS, fold

MOST = 14
"""Lines that can be told apart; of more, the best 12 and the baseline are shown."""

_BASELINES = 2
_NAMED = 6


@dataclass(frozen=True)
class GroupStyle:
    """A group, or several that are the same number by number, in a figure.

    Attributes:
        label: One of `Comparison.lines`.
        is_baseline: Whether others are compared with it.
        colour: Of the line, its markers and band.
        dashes: Of the line.
        marker: Of its points.
        fill: How much of a marker is filled.
    """

    label: str
    is_baseline: bool
    colour: str
    dashes: str
    marker: str
    fill: str

    @property
    def points(self) -> dict[str, Any]:
        """Return the keywords that matplotlib takes for markers without a line."""
        return {
            "color": self.colour,
            "linestyle": "none",
            "marker": self.marker,
            "fillstyle": self.fill,
            "markerfacecoloralt": "white",
        }

    @property
    def style(self) -> dict[str, Any]:
        """Return the keywords that matplotlib takes for a line with markers."""
        return {**self.points, "linestyle": self.dashes}

    def name(self, width: int = 58) -> str:
        """Return the label, folded to lines of `width` characters; a baseline says it is one."""
        text = f"{self.label} (baseline)" if self.is_baseline else self.label
        return fold(text, width)


def all_styles(comparison: Comparison) -> list[GroupStyle]:
    """Return all lines, best first; their looks repeat where there are many."""
    return _lines(comparison, comparison.lines)


def shown_styles(comparison: Comparison) -> list[GroupStyle]:
    """Return the lines that can be told apart in one figure, best first."""
    labels = comparison.lines
    if len(labels) > MOST:
        best = labels[: MOST - _BASELINES]
        baselines = _baselines(comparison)
        rest = [label for label in labels if label in baselines and label not in best]
        labels = best + rest[:_BASELINES]
    return _lines(comparison, labels)


def tell_not_shown(comparison: Comparison) -> str:
    """Return the sentence that says how many lines a figure leaves out; empty if none."""
    shown, best = len(shown_styles(comparison)), MOST - _BASELINES
    if shown == len(comparison.lines):
        return ""
    which = f"the best {best}" if shown == best else f"the best {best} and the baseline"
    return f"Shown are {which}; {len(comparison.lines) - shown} more are not shown."


def tell_same(comparison: Comparison, styles: Sequence[GroupStyle], what: str) -> str:
    """Return the sentence that says which lines stand for several groups, and why."""
    labels = [line.label for line in styles]
    found = [str(twins) for twins in comparison.identical if twins.label in labels]
    if not found:
        return ""
    return f"Groups that are the same, number by number, are one {what} ({'; '.join(found)})."


def tell_single(labels: Sequence[str], of: int, what: str) -> str:
    """Return the sentence that says which of so many lines have one value, so no `what`."""
    if not labels:
        return ""
    named = "; ".join(labels) if len(labels) <= _NAMED else f"{len(labels)} of {of}"
    return f"No {what} where n = 1{'' if len(labels) == of else f': {named}'}."


def _lines(comparison: Comparison, labels: Sequence[str]) -> list[GroupStyle]:
    """Give each line the look that it has among all, so in every figure."""
    baselines = _baselines(comparison)
    looks = dict(zip(comparison.lines, _looks(comparison, comparison.lines), strict=True))
    return [GroupStyle(label, label in baselines, *looks[label]) for label in labels]


def _baselines(comparison: Comparison) -> set[str]:
    names = comparison.table["baseline"]
    return {comparison.line_of[name] for name in names if name}


def _looks(comparison: Comparison, labels: Sequence[str]) -> list[tuple[str, ...]]:
    """Give colour and marker to a value of the first of two keys, dashes and fill to the second's.

    Where there are more or fewer keys, or too many values, each line has all of its own.
    """
    settings = {
        comparison.line_of[group.label]: tuple(group.settings.values())
        for group in reversed(comparison.groups)
    }
    pairs = [settings[label] for label in labels]
    if len(comparison.by) == 2:
        firsts, seconds = (list(dict.fromkeys(values)) for values in zip(*pairs, strict=True))
        if len(firsts) <= len(COLOURS) and len(seconds) <= len(DASHES):
            return [_look(firsts.index(one), seconds.index(other)) for one, other in pairs]
    return [_look(i, i) for i in range(len(labels))]


def _look(one: int, other: int) -> tuple[str, ...]:
    looks = ((COLOURS, one), (DASHES, other), (MARKERS, one), (FILLS, other))
    return tuple(choices[i % len(choices)] for choices, i in looks)
