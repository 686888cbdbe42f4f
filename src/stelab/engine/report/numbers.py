"""How numbers, counts and lists are written, the same everywhere."""

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from stelab.engine.terminal import visible

MISSING = "–"


def number(value: float, *, sign: bool = False) -> str:
    """Write four significant digits; with `sign`, a plus too."""
    if math.isnan(value):
        return MISSING
    if value == 0:
        return "0"
    return f"{value:{'+' if sign else ''}#.4g}".removesuffix(".")


signed = partial(number, sign=True)  # for differences


def interval(low: float, high: float, *, n: int, sign: bool = False) -> str:
    """Write an interval, or why there is none."""
    if math.isnan(low) or math.isnan(high):
        return f"n = {n}, no interval"
    return f"[{number(low, sign=sign)}, {number(high, sign=sign)}]"


def p_value(p: float) -> str:
    """Write a p value; below 0.001 that it is."""
    if math.isnan(p):
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def percent(share: float) -> str:
    """Write a confidence: ``"95 %"``."""
    return f"{100 * share:g} %"


def setting_text(value: Any) -> str:
    """Write a setting's value as on the command line, or that there is none."""
    import pandas as pd  # with what it is for: numbers are written without it

    from stelab.engine.comparison.conditions import write_value

    return MISSING if pd.isna(value) else visible(write_value(value))


def counted(count: int, noun: str) -> str:
    """Write e.g. ``"1 run"`` or ``"2 runs"``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def count_kinds(counts: Mapping[str, int]) -> str:
    """Write e.g. ``"31 missing, 1 running"``, most first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {kind}" for kind, count in ordered)


def duration(seconds: float) -> str:
    """Write e.g. ``"45 s"``, ``"3:20 min"`` or ``"2:05 h"``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02} h"
    return f"{minutes}:{rest:02} min" if minutes else f"{rest} s"


def join_words(words: Iterable[str]) -> str:
    """Write e.g. ``"a, b and c"``."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
