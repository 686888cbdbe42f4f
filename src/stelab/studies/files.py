"""Files that a reader never sees half written, and files of strangers, read within bounds."""

import os
import stat
from pathlib import Path


def read_bounded(path: Path, *, limit: int) -> bytes:
    """Read a regular file whole, or nothing of it.

    A pipe or a device behind a name could be waited for, or read, for ever; so what a name leads to
    and how large it is are looked at before anything is read.

    Args:
        path: The file, or a link to it.
        limit: The most bytes that it may hold.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is no regular file, or holds more.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path.name} is not a regular file")
        content = file.read(limit + 1) if status.st_size <= limit else b""
    if max(status.st_size, len(content)) > limit:
        raise ValueError(f"{path.name} is too large: more than {limit} bytes")
    return content


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Write, flush to disk, rename: `path` holds the old content or the new, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def link_atomically(source: Path, path: Path) -> None:
    """Let `path` be the same file as `source`, or a copy where the file system has no links."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        return write_atomically(path, source.read_bytes())
    temporary.replace(path)
