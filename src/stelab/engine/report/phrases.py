"""Numbers and lists in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def counted(count: int, noun: str) -> str:
    """Write e.g. ``"1 run"`` or ``"2 runs"``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


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


def count_kinds(counts: Mapping[str, int]) -> str:
    """Write e.g. ``"31 missing, 1 running"``, most first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {kind}" for kind, count in ordered)
