"""The contract on imports holds, and notices what breaks it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY

LINT = Path(sys.executable).with_name("lint-imports")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the contract of the checkout in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    command = [str(LINT), "--no-cache"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("estimators/base.py", "import pydantic", "The layer is torch alone"),
        ("binarizer.py", "import stelab.engine.errors", "The layer is torch alone"),
        ("engine/studies/record.py", "import stelab.estimators", "The study engine knows"),
        ("engine/report/lines.py", "import stelab.lab.models", "Imports go down"),
        ("lab/training/run.py", "import stelab.apps.main", "Imports go down"),
        ("lab/training/run.py", "import stelab.lab.gradients", "No package imports"),
        ("engine/config/compose.py", "import stelab.engine.sweepers", "No package imports"),
    ],
)
def test_a_forbidden_import_is_noticed(
    tmp_path: Path, module: str, line: str, contract: str
) -> None:
    shutil.copytree(REPOSITORY / "src", tmp_path / "src")
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    assert lint(tmp_path).returncode == 0
    path = tmp_path / "src" / "stelab" / module
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    broken = lint(tmp_path)
    assert broken.returncode == 1
    assert f"{contract}" in broken.stdout.partition("Broken contracts")[2]
