"""Which folders a comparison reads, and where it is written."""

from __future__ import annotations

from pathlib import Path

from stelab.engine.config.lists import split_commas
from stelab.engine.errors import InputError
from stelab.engine.studies.tables import COMPARISON


def study_folders(outputs: str, studies: str) -> list[Path]:
    """Return the folders of comma-separated studies: names in `outputs`, or paths.

    Raises:
        InputError: None is named.
    """
    names = split_commas(studies)
    if not names:
        raise InputError(f"a study must be named, or several: NAME,NAME; got '{studies}'")
    return [Path(name) if "/" in name else Path(outputs, name) for name in names]


def comparison_folder(studies: list[Path]) -> Path:
    """Return where the comparison of studies lies: in the first one's folder."""
    first, *others = {study.resolve(): study for study in studies}.values()  # each once
    return first / "-with-".join([COMPARISON, *(other.name for other in others)])
