"""Names of runs in TensorBoard: they are names of folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from stelab.terminal import visible

_FORBIDDEN = r'[\x00-\x1f<>:"/\\|?*]'  # by some file system
_LONGEST = 200  # bytes; file systems have 255


def folder_names(labels: Sequence[str], tails: Sequence[str]) -> list[str]:
    """Make a folder's name of each label; where several would have one, add their tails."""
    names = [_short(re.sub(_FORBIDDEN, "_", visible(label))) for label in labels]
    counts = Counter(names)
    return [
        name if counts[name] == 1 else f"{name} ({tail})"
        for name, tail in zip(names, tails, strict=True)
    ]


def _short(name: str) -> str:
    content = name.encode()
    short = name if len(content) <= _LONGEST else content[:_LONGEST].decode(errors="ignore") + "…"
    return "_" if short in ("", ".", "..") else short
