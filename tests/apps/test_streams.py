"""Where output cannot go: what was done stays done, and no traceback is printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Cli

STELAB = f"{sys.executable} -m stelab"
SWEEP = f"{STELAB} train -m debug=fast model=mlp model.bits=2 seed=0,1"


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        (">/dev/full", 1, "stelab: there is no space left for stdout: free some, and run it again"),
        ("| true", 128 + 13, ""),
    ],
)
def test_a_sweep_goes_on_when_its_output_is_lost(
    end: str, code: int, message: str, tmp_path: Path
) -> None:
    result = shell(f"{SWEEP} {end}", tmp_path)
    assert result.returncode == code
    assert [line for line in result.stderr.splitlines() if line.startswith("stelab")] == (
        [message] if message else []
    )
    assert "Traceback" not in result.stderr and "Exception" not in result.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/*/*/run.json")]
    assert [record["status"] for record in records] == ["finished"] * 2


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--help >/dev/full", 1),
        ("--help >&-", 1),
        ("--help <&- >&-", 1),
        ("status 2>/dev/full", 2),
        ("status 2>&-", 2),
        ("train --cfg job | true", 128 + 13),
    ],
)
def test_the_exit_code_tells_where_nothing_else_can(line: str, code: int, tmp_path: Path) -> None:
    result = shell(f"{STELAB} {line}", tmp_path)
    assert result.returncode == code
    assert "Traceback" not in result.stderr and "Exception" not in result.stderr


def test_a_terminal_that_lacks_a_character_gets_an_escape(cli_process: Cli, tmp_path: Path) -> None:
    result = cli_process(
        "status", "study=a", "paths.outputs='→ \x1b[2J'", PYTHONIOENCODING="latin-1"
    )
    assert result.returncode == 2
    assert result.stderr.startswith("stelab: \\u2192 \\x1b[2J/a holds no runs")
