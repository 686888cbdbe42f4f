"""Archives, whole and hostile: what is read of them, and that the rest is refused in one line."""

from __future__ import annotations

import io
import lzma
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stelab.engine import archives
from stelab.engine.archives import located, remove_unpacked, studies_in, write_archive
from stelab.engine.errors import InputError

RUN = "study/run/run.json"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which archives are unpacked."""
    (folder := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    remove_unpacked()
    assert not list(folder.iterdir())


def written(path: Path, *names: str) -> Path:
    with path.open("wb") as file:
        write_archive(file, [(name, name.encode()) for name in names])
    return path


def tar(path: Path, *entries: tarfile.TarInfo) -> Path:
    """Write an archive of entries."""
    with lzma.open(path, "wb") as compressed, tarfile.open(fileobj=compressed, mode="w|") as made:
        for entry in entries:
            made.addfile(entry, io.BytesIO(b"1" * entry.size))
    return path


def entry(name: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(made, key, value)
    return made


def test_a_path_may_lead_into_an_archive(tmp_path: Path) -> None:
    long = "é" * 100 + "-" * 40
    names = (RUN, f"study/{long}/config.yaml", "study/sweeps/ab.json", "b/run/metrics.csv")
    archive = written(tmp_path / "a.tar.xz", *names)
    assert studies_in(archive) == [archive / "b", archive / "study"]
    for name in names:
        assert located(archive / name).read_text() == name
    assert studies_in(tmp_path) == [tmp_path]
    assert located(tmp_path / "x") == tmp_path / "x"


def test_the_same_files_are_the_same_bytes(tmp_path: Path) -> None:
    first = written(tmp_path / "a.tar.xz", RUN).read_bytes()
    assert written(tmp_path / "b.tar.xz", RUN).read_bytes() == first
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        (info,) = tar
    assert (info.mtime, info.mode, info.uid, info.gid, info.uname) == (0, 0o644, 0, 0, "")


def test_an_archive_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    archive = written(tmp_path / "a.tar.xz", RUN)
    assert [path.name for path in studies_in(archive)] == ["study"]
    written(archive, RUN, "other/run/run.json")
    assert [path.name for path in studies_in(archive)] == ["other", "study"]


def test_what_is_no_file_of_a_study_is_not_unpacked(tmp_path: Path) -> None:
    others = ("study/run/tb/events", "study/run/notes.txt", "study/run.json", "study/sweeps/a.sh")
    archive = tar(
        tmp_path / "a.tar.xz",
        entry("study", type=tarfile.DIRTYPE),
        entry(RUN),
        *map(entry, others),
    )
    files = [path for path in located(archive / "study").rglob("*") if path.is_file()]
    assert files == [located(archive / RUN)]


def negative(path: Path) -> Path:
    """Write a header whose size is negative, in base 256."""
    header = bytearray(entry(RUN).tobuf())
    header[124:136] = (-1024).to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(lzma.compress(bytes(header) * 4))
    return path


def nested(path: Path) -> Path:
    """Write headers that describe headers that describe headers."""
    record = b"13 path=a/b/c\n".ljust(512, b"\0")
    header = entry("x", type=tarfile.XHDTYPE, size=512).tobuf()
    path.write_bytes(lzma.compress((header + record) * 2_000))
    return path


def sparse(path: Path) -> Path:
    """Write a file of a few bytes that would become 100 GB."""
    headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": str(10**11),
        "GNU.sparse.name": RUN,
    }
    made = entry("study/run/x", size=512, pax_headers=headers)
    with lzma.open(path, "wb") as file, tarfile.open(fileobj=file, mode="w|", format=2) as out:
        out.addfile(made, io.BytesIO(b"1\n0\n0\n".ljust(512, b"\0")))
    return path


def test_hostile_archives_are_refused(tmp_path: Path, temporary: Path) -> None:
    path = tmp_path / "a.tar.xz"
    made = written(path, RUN, "study/run/config.yaml").read_bytes()
    link = entry("study/run/run.json", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    hard = entry("study/run/run.json", type=tarfile.LNKTYPE, linkname="study/run/config.yaml")
    cases: list[tuple[str, Callable[[], object]]] = [
        ("leads elsewhere", lambda: tar(path, entry("study/../run.json"))),
        ("leads elsewhere", lambda: tar(path, entry("../x/run.json"))),
        ("leads elsewhere", lambda: tar(path, entry("/etc/x/run.json"))),
        ("leads elsewhere", lambda: tar(path, entry("study/a\x1b[2J/run.json"))),
        ("is a link, or no plain file", lambda: tar(path, link)),
        ("is a link, or no plain file", lambda: tar(path, hard)),
        ("is a link, or no plain file", lambda: tar(path, entry(RUN, type=tarfile.FIFOTYPE))),
        ("is there twice", lambda: tar(path, entry(RUN), entry(RUN))),
        ("is a link, or no plain file", lambda: sparse(path)),
        ("a file has a negative size", lambda: negative(path)),
        ("nested too deep", lambda: nested(path)),
        ("it is cut off", lambda: path.write_bytes(made[:-30])),
        ("it is cut off", lambda: path.write_bytes(b"")),
        ("Input format not supported", lambda: path.write_bytes(b"PK\3\4 is a zip")),
        ("it holds no run", lambda: tar(path, entry("notes.txt"))),
    ]
    for message, make in cases:
        make()
        with pytest.raises(InputError, match="cannot be read as an archive of studies") as refused:
            studies_in(path)
            pytest.fail(message)
        assert message in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1
        assert "\x1b" not in str(refused.value)
    assert not list(temporary.iterdir())


def test_archives_are_read_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 2**20)
    monkeypatch.setattr(archives, "MOST_FILES", 100)
    with pytest.raises(InputError, match="it holds more than 1048576 bytes"):
        studies_in(tar(tmp_path / "a.tar.xz", entry(RUN, size=2**21)))
    with pytest.raises(InputError, match="it has more than 100 files"):
        studies_in(written(tmp_path / "b.tar.xz", *(f"s/r{i}/run.json" for i in range(101))))
    assert len(studies_in(written(tmp_path / "c.tar.xz", *(f"s{i}/r/run.json" for i in range(9)))))
    demanding = lzma.compress(b"1" * 512, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 2**28}])
    (tmp_path / "d.tar.xz").write_bytes(demanding)
    with pytest.raises(InputError, match="cannot be read as an archive of studies: Memory"):
        studies_in(tmp_path / "d.tar.xz")
