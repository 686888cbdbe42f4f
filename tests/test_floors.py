"""The contract on imports holds, and notices what breaks it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

from conftest import REPOSITORY

# What is no public module of its package, besides names that begin with an underscore.
INTERNAL = ("tensorboard.compat", "tensorboard.plugins", "submitit.core")
DISTRIBUTIONS = {"hydra": "hydra-core"}

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
        ("engine/report/group_styles.py", "import stelab.lab.models", "Imports go down"),
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


def internals_used() -> set[str]:
    """Return the packages whose internals src/ imports."""
    found = set()
    for path in (REPOSITORY / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or node.module is None:
                continue
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            private = any(name.startswith("_") and not name.startswith("__") for name in names)
            if private or node.module.startswith(INTERNAL):
                found.add(names[0])
    return found - {"stelab", "hydra_plugins", "__future__"}


def test_packages_whose_internals_are_used_are_bounded_above() -> None:
    used = internals_used()
    assert used >= {"hydra", "omegaconf", "tensorboard", "ray"}
    for name in used | {"torch", "pytorch_lightning"}:  # their checkpoints are read and edited
        distribution = DISTRIBUTIONS.get(name, name.replace("_", "-"))
        bounds = [r for r in requires("stelab") or [] if re.match(rf"{distribution}[<>]", r)]
        assert bounds and all("<" in bound for bound in bounds), distribution
