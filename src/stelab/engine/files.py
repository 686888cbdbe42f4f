"""Files that a reader never sees half written, and files of strangers, read within bounds."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stelab.engine.errors import InputError


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read; raise OSError or ValueError if it is none.

    The type is checked before anything is read: a pipe or a device could block for ever.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise ValueError(f"{path.name} is not a regular file")


def read_bounded(path: Path, *, limit: int) -> bytes:
    """Read all of a regular file; raise ValueError, having read nothing, if it is over `limit`."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(limit + 1) if size <= limit else b""
    if max(size, len(content)) > limit:
        raise ValueError(f"{path.name} is too large: more than {limit} bytes")
    return content


def require_own(*paths: Path) -> None:
    """Refuse links where a run's or a study's own folders should be: they may lead anywhere."""
    for path in paths:
        if path.is_symlink():
            raise InputError(
                f"{path} must be a folder, but is a link, which is not written to: remove it"
            )


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Write, flush to disk, rename: `path` holds the old content or the new, whatever happens."""
    with written_atomically(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write; `path` holds the old content until it is whole and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def filled_atomically(folder: Path) -> Iterator[Path]:
    """Yield a folder to write files to, which appear in `folder` when all are written."""
    beside = not folder.exists()  # else within: the same disk, whatever is mounted there
    temporary = _temporary(folder if beside else folder / folder.name)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if beside:
            temporary.rename(folder)
        else:
            for path in temporary.iterdir():
                path.replace(folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def link_atomically(source: Path, path: Path) -> None:
    """Make `path` the same file as `source`, or a copy where the file system has no links."""
    temporary = _temporary(path)
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        return write_atomically(path, source.read_bytes())
    temporary.replace(path)


def _temporary(path: Path) -> Path:
    """Name a hidden neighbour of `path` that no other process writes."""
    return path.with_name(f".{path.name}.{os.getpid()}")
