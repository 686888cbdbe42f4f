"""How numbers are written in tables, the same everywhere."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from stelab.engine.comparison.conditions import write_value
from stelab.engine.terminal import visible

MISSING = "–"


def number(value: float, *, sign: bool = False) -> str:
    """Write four significant digits; with `sign`, a plus too."""
    if math.isnan(value):
        return MISSING
    if value == 0:
        return "0"
    return f"{value:{'+' if sign else ''}#.4g}".removesuffix(".")


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
    return MISSING if value is None or pd.isna(value) else visible(write_value(value))
