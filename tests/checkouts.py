"""Copies of the checkout, whose scripts find installed what is installed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def borrow_environment(folder: Path) -> None:
    """Make a .venv that scripts/bootstrap.sh takes for installed."""
    binaries = folder / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for path in Path(sys.executable).parent.iterdir():
        if path.name != "python":
            (binaries / path.name).symlink_to(path)
    (binaries / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (binaries / "python").chmod(0o755)
    stamp = "cat pyproject.toml scripts/constraints.txt | cksum > .venv/.installed-dev"
    subprocess.run(stamp, shell=True, cwd=folder, check=True)
