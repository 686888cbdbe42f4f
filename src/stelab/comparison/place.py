"""Which folders a comparison reads, and where it is written."""

from __future__ import annotations

from pathlib import Path

from stelab.errors import InputError
from stelab.studies.tables import COMPARISON


def folders_of(outputs: str, studies: str) -> list[Path]:
    """Return the folders of comma-separated studies: names in `outputs`, or paths.

    Raises:
        InputError: None is named.
    """
    names = listed(studies)
    if not names:
        raise InputError("study must name one study, or several: study=A,B")
    return [Path(name) if "/" in name else Path(outputs, name) for name in names]


def folder_of(studies: list[Path]) -> Path:
    """Return where the comparison of studies lies: in the first one's folder."""
    first, *others = studies
    return first / "-with-".join([COMPARISON, *(other.name for other in others)])


def listed(text: str | None) -> list[str]:
    """Split at commas."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]
