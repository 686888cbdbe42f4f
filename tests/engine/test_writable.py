"""Places to write to are looked at before anything starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stelab.engine.errors import InputError
from stelab.engine.files import require_file, require_folder


def test_what_can_be_made_passes_and_nothing_is_made(tmp_path: Path) -> None:
    require_folder(tmp_path / "a" / "b")
    require_file(tmp_path / "a" / "b.csv")
    require_folder(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "below", file / "far" / "below"):
        with pytest.raises(InputError, match="must be a folder to write to"):
            require_folder(path)
    with pytest.raises(InputError, match="must be a file to write, but is a folder"):
        require_file(tmp_path)
    for path in (tmp_path / ("x" * 256), tmp_path / "new" / ("x" * 256), Path("x/" * 2000)):
        with pytest.raises(InputError, match="File name too long"):
            require_folder(path)
    with pytest.raises(InputError, match="null"):
        require_folder("a\0b")
    with pytest.raises(InputError, match="surrogates"):
        require_folder("a\ud800b")


READ_ONLY = """
mkdir sealed && mount -t tmpfs -o ro none sealed || exit 99
"$PYTHON" -c 'from stelab.engine import files; files.require_folder("sealed/new")'
"""


def test_what_is_read_only_is_refused(tmp_path: Path) -> None:
    namespace = ["unshare", "--map-root-user", "--mount"]
    result = subprocess.run(
        [*namespace, "env", f"PYTHON={sys.executable}", "bash", "-c", READ_ONLY],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1, result.stderr
    assert "sealed must be writable, but is read-only" in result.stderr
