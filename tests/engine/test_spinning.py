"""Threads that wait for each other spin for long only where processors are free."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stelab.engine import spinning


@pytest.mark.parametrize(
    ("running", "processors", "scarce"),
    [(1, 1, False), (2, 1, True), (1, 2, False), (2, 2, True), (57, 64, False), (58, 64, True)],
)
def test_processors_are_scarce_where_a_run_has_to_share_them(
    running: int, processors: int, scarce: bool
) -> None:
    assert spinning.are_scarce(running, processors) is scarce


@pytest.mark.parametrize(
    ("text", "running"), [("0.5 0.4 0.3 12/345 678\n", 12), ("", 1), ("0.5 0.4 0.3 x/y 6", 1)]
)
def test_what_could_run_is_what_the_system_says(
    text: str, running: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spinning, "LOAD", tmp_path / "loadavg")
    assert spinning.runnable() == 1  # no such file
    (tmp_path / "loadavg").write_text(text)
    assert spinning.runnable() == running


SET = "GOMP_SPINCOUNT"
PROGRAM = f"""\
import os, stelab.__main__ as program
program.main = lambda: print(os.environ.get({SET!r}))
program.program()
"""


@pytest.mark.skipif(not spinning.LOAD.exists(), reason="this system does not tell its load")
@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, "1000"), ({SET: "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_beside_busy_processes_they_spin_briefly_unless_the_user_says_otherwise(
    own: dict[str, str], expected: str
) -> None:
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        environment = {key: value for key, value in os.environ.items() if key != SET} | own
        command = [sys.executable, "-c", PROGRAM]
        out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert out.stdout.strip() == expected
    finally:
        for process in busy:
            process.kill()
            process.wait()
