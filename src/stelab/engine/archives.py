"""Archives of studies, read as the folders that they were made of.

A path may lead into one: ``ablation.tar.xz/ablation/<run id>``. An archive may be anybody's, so of
its files only those are taken that a study's tables are made of, into a temporary folder of this
process; links and names that lead elsewhere are refused, and so is what is too large.
"""

import atexit
import lzma
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from stelab.engine.errors import InputError, first_line
from stelab.engine.path_names import is_path_name
from stelab.engine.terminal import brief, visible

SUFFIX = ".tar.xz"
RUN_FILES = ("config.yaml", "run.json", "metrics.csv")
SWEEPS = "sweeps"  # a study's folder of lists of jobs
MOST_FILES, MOST_BYTES = 60_000, 2**29  # unpacked: of 20,000 runs, twice as large as usual
_MEMORY = 2**27  # bytes, of the decompressor; xz -9 asks for half
_BLOCK = 2**16


_folders: list[Path] = []  # of what was unpacked


def is_archive(path: Path) -> bool:
    """Return whether a path is that of an archive."""
    return path.name.endswith(SUFFIX) and path.is_file()


def located(path: Path) -> Path:
    """Return where a path can be read: what is in an archive lies in a temporary folder."""
    for parent in (path, *path.parents):
        if is_archive(parent):
            return _unpacked(parent) / path.relative_to(parent)
    return path


def studies_in(path: Path) -> list[Path]:
    """Return the studies of an archive, as paths that lead into it; or the one folder itself."""
    if not is_archive(path):
        return [path]
    return [path / study.name for study in sorted(_unpacked(path).iterdir())]


def write_archive(file: BinaryIO, contents: Iterable[tuple[str, bytes]]) -> None:
    """Write files by their names: the same bytes for the same files, whoever writes them, when."""
    with (
        lzma.open(file, "wb", preset=6) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, content in contents:
            entry = tarfile.TarInfo(name)  # without owner or time, for all to read
            entry.size = len(content)
            tar.addfile(entry, BytesIO(content))


@atexit.register
def remove_unpacked() -> None:
    """Remove what was unpacked: a command calls this at its end, a Python session has it called."""
    _unpack_once.cache_clear()
    while _folders:
        shutil.rmtree(_folders.pop(), ignore_errors=True)


def _unpacked(archive: Path) -> Path:
    status = archive.stat()
    return _unpack_once(archive.resolve(), status.st_mtime_ns, status.st_size)


@cache
def _unpack_once(archive: Path, changed: int, size: int) -> Path:
    """Unpack an archive as it is now."""
    _folders.append(folder := Path(tempfile.mkdtemp(prefix="stelab-")))
    try:
        _unpack(archive, folder)
        if not any(folder.iterdir()):
            raise ValueError("it holds no run")
    except (OSError, ValueError, EOFError, tarfile.TarError, lzma.LZMAError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(
            f"{visible(str(archive))} cannot be read as an archive of studies: {first_line(error)}"
        ) from error
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    with archive.open("rb") as file:
        stream = cast(BinaryIO, _Decompressed(file))
        try:
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Entry) as tar:
                for entry in _checked(tar):
                    path = folder / entry.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("xb") as target:
                        shutil.copyfileobj(cast(BinaryIO, tar.extractfile(entry)), target)
        except RecursionError:
            raise ValueError("its headers are nested too deep") from None
        while stream.read(_BLOCK):  # to the end, where its checksum is
            pass


def _checked(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the files that are a study's; refuse what no archive of studies has."""
    names = set[str]()
    for number, entry in enumerate(tar):
        if number == MOST_FILES:
            raise ValueError(f"it has more than {MOST_FILES} files")
        if not all(map(is_path_name, entry.name.split("/"))):
            raise ValueError(f"the name {brief(visible(repr(entry.name)))} leads elsewhere")
        if entry.name in names:
            raise ValueError(f"{brief(visible(entry.name))} is there twice")
        if entry.issparse() or not (entry.isreg() or entry.isdir()):
            raise ValueError(f"{brief(visible(entry.name))} is a link, or no plain file")
        names.add(entry.name)
        if entry.isreg() and _is_of_study(entry.name):
            yield entry


def _is_of_study(name: str) -> bool:
    path = PurePosixPath(name)
    if len(path.parts) != 3:
        return False
    return path.suffix == ".json" if path.parts[1] == SWEEPS else path.name in RUN_FILES


class _Entry(tarfile.TarInfo):
    """A header that may be anybody's."""

    def _block(self, count: int) -> int:
        """Refuse a negative size, by which Python's reader goes back for ever (CVE-2025-8194)."""
        if count < 0:
            raise tarfile.ReadError("a file has a negative size")
        return cast(int, super()._block(count))  # type: ignore[misc]


class _Decompressed:
    """What an xz file holds, up to `MOST_BYTES`, as `tarfile` reads it."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
        self.left = MOST_BYTES

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, at the end none."""
        while not self.decompressor.eof:
            compressed = b""
            if self.decompressor.needs_input and not (compressed := self.file.read(_BLOCK)):
                raise EOFError("it is cut off")
            if content := self.decompressor.decompress(compressed, size):
                self.left -= len(content)
                if self.left < 0:
                    raise ValueError(f"it holds more than {MOST_BYTES} bytes")
                return content
        return b""
