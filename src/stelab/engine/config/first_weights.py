"""Where a run's first weights come from (`from_checkpoint`), and what that file held."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from stelab.engine.errors import InputError
from stelab.engine.files import open_regular

_MARK = "#sha256="


def checkpoint_file(source: str) -> Path:
    """Return the file that `source` names: a checkpoint, or the last one of a run's folder."""
    path = Path(source.partition(_MARK)[0])
    return path / "checkpoints" / "last.ckpt" if path.is_dir() else path


def pinned(source: str) -> str:
    """Return `source` with the checksum of the file's content at its end.

    Raises:
        InputError: There is no such file, or `source` has another checksum already.
    """
    name, _, known = source.partition(_MARK)
    path = checkpoint_file(source)
    try:
        status = path.stat()
        digest = _digest(path, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError) as error:
        if known:  # a finished run needs it no more
            return source
        raise InputError(
            "from_checkpoint must be a run's folder or a checkpoint, but "
            f"{getattr(error, 'strerror', None) or error}: {path}"
        ) from error
    if known not in ("", digest):
        raise InputError(f"from_checkpoint: {path} holds something else than when it was recorded")
    return f"{name}{_MARK}{digest}"


def content_of(source: str) -> str:
    """Return what tells one start from another: the checksum, as far as it is known."""
    return source.partition(_MARK)[2] or source


@lru_cache(maxsize=64)
def _digest(path: Path, changed: int, size: int) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
