"""Places on disk that a command is to write, looked at before it starts."""

from __future__ import annotations

import os
from pathlib import Path

from stelab.engine.errors import InputError
from stelab.engine.terminal import brief, visible

_ROOM = "x" * 200  # for the names of what will lie in a folder


def require_folder(path: Path | str) -> None:
    """Raise InputError where no folder can be made, or written to, at `path`."""
    _require(path)


def require_file(path: Path | str) -> None:
    """Raise InputError where no file can be made, or written anew, at `path`."""
    _require(Path(path).parent)
    _look(Path(path))
    if os.path.isdir(path):
        raise InputError(f"{visible(str(path))} must be a file to write, but is a folder")


def _require(path: Path | str) -> None:
    there = Path(os.path.abspath(path))
    missing = []
    while there != there.parent and not _look(there):
        missing.append(there.name)
        there = there.parent
    for name in missing:
        _look(there / name)  # looks at the length of a name only where its folder is there
    _look(Path(os.path.abspath(path), _ROOM))
    if not there.is_dir():
        raise InputError(f"{visible(str(there))} must be a folder to write to, but is none")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{visible(str(there))} must be writable, but is read-only")


def _look(path: Path) -> bool:
    """Tell whether something is there; raise InputError where nothing can be."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(
            f"nothing can be written to {brief(visible(str(path)))}: {reason}"
        ) from error
    return True
