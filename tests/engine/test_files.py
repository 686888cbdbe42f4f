"""Files of strangers are read within bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stelab.engine.files import read_bounded


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    (path := tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(path, limit=5) == b"12345"
    with pytest.raises(ValueError, match="a is too large: more than 4 bytes"):
        read_bounded(path, limit=4)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    (device := tmp_path / "device").symlink_to("/dev/zero")
    for path in (fifo, device):
        with pytest.raises(ValueError, match="is not a regular file"):
            read_bounded(path, limit=5)
    with pytest.raises(OSError):
        read_bounded(tmp_path, limit=5)
