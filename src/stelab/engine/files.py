"""Files: those of strangers read within bounds, our own written whole, where it is possible."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stelab.engine.archives import located
from stelab.engine.errors import InputError
from stelab.engine.terminal import brief, visible

_ROOM = "x" * 200  # for the names of what will lie in a folder


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file; raise OSError or ValueError for others, which may block for ever."""
    descriptor = os.open(located(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
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
    for link in filter(Path.is_symlink, paths):
        raise InputError(
            f"{link} must be a folder, but is a link, which is not written to: remove it"
        )


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
    is_new = not folder.exists()  # else the files wait within: the disk that is mounted there
    temporary = _temporary(folder if is_new else folder / folder.name)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if is_new:
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


def _exists(path: Path) -> bool:
    """Whether something is there; raise InputError if nothing can be."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        name = brief(visible(str(path)))
        raise InputError(f"nothing can be written to {name}: {reason}") from error
    return True
