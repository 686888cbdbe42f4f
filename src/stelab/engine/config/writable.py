"""Places on disk that a command is to write, looked at before it starts."""

from __future__ import annotations

import os
from pathlib import Path

from stelab.engine.errors import InputError
from stelab.engine.terminal import brief, visible

_ROOM = "x" * 200  # for the names of what will lie in a folder


def require_folder(path: Path | str) -> None:
    """Raise InputError if no folder can be made, or written to, at `path`."""
    existing = folder = Path(os.path.abspath(path))
    missing = []
    while existing != existing.parent and not _exists(existing):
        missing.append(existing.name)
        existing = existing.parent
    for name in missing:
        _exists(existing / name)  # only the folder that is there limits the length of a name
    _exists(folder / _ROOM)
    if not existing.is_dir():
        raise InputError(f"{visible(str(existing))} must be a folder to write to, but is none")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{visible(str(existing))} must be writable, but is read-only")


def require_file(path: Path | str) -> None:
    """Raise InputError if no file can be made, or written anew, at `path`."""
    require_folder(Path(path).parent)
    _exists(Path(path))
    if os.path.isdir(path):
        raise InputError(f"{visible(str(path))} must be a file to write, but is a folder")


def _exists(path: Path) -> bool:
    """Whether something is there; raise InputError if nothing can be."""
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
