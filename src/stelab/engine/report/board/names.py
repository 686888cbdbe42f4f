"""Names of runs in TensorBoard: they are names of folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from stelab.engine.path_names import path_name
from stelab.engine.terminal import visible


def folder_names(labels: Sequence[str], tails: Sequence[str]) -> list[str]:
    """Make a folder's name of each label; where several would have one, add their tails."""
    names = [path_name(visible(label)) for label in labels]
    counts = Counter(names)
    return [
        name if counts[name] == 1 else f"{name} ({path_name(tail, most=40)})"
        for name, tail in zip(names, tails, strict=True)
    ]
