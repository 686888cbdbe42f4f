"""Whether a sweep is under way: its driver holds a lock in the study's folder while it lives."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from stelab.engine.errors import InputError
from stelab.engine.studies.lock import LEASE, is_locked, locked
from stelab.engine.studies.sweep import FOLDER

_PREFIX = "driver-"


@contextmanager
def driving(studies: Collection[Path]) -> Iterator[None]:
    """Let others, on other hosts too, see that a sweep of these studies goes on."""
    with ExitStack() as stack:
        for study in studies:
            _clear(study)
            stack.enter_context(_held(study / FOLDER / f"{_PREFIX}{uuid.uuid4().hex[:8]}"))
        yield


def is_driven(study: Path) -> bool:
    """Tell whether the driver of any sweep of a study lives, as `lock` knows it."""
    return any(map(_lives, _drivers(study)))


def _lives(driver: Path) -> bool:
    try:
        return is_locked(driver)
    except (InputError, OSError):  # somebody's, whatever it is
        return False


def _drivers(study: Path) -> list[Path]:
    return sorted((study / FOLDER).glob(f"{_PREFIX}*"))


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    try:
        with locked(folder, on_loss=lambda: None):
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clear(study: Path) -> None:
    """Remove what drivers that were killed left behind."""
    for folder in _drivers(study):
        with suppress(FileNotFoundError):  # another driver clears, too
            if not _lives(folder) and time.time() - folder.stat().st_mtime > 2 * LEASE:
                shutil.rmtree(folder, ignore_errors=True)
