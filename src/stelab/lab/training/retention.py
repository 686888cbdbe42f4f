"""What stays of a finished run's checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from stelab.engine.files import link_atomically
from stelab.lab.training.checkpoint_file import BEST, LAST, read_checkpoint, write_sealed
from stelab.lab.training.module import AutoencoderModule


def retain(what: Literal["all", "weights", "none"], checkpoints: Path) -> None:
    """Remove the checkpoints that are not to be kept; if killed midway, some remain.

    Args:
        what: ``"weights"``: without what only training would need, such as the optimizer's state:
            `stelab.lab.training.restore` loads them, and no run continues from them. ``"none"``: no
            file.
        checkpoints: The folder.
    """
    if what == "none":
        shutil.rmtree(checkpoints)
    elif what == "weights":
        best, last = checkpoints / BEST, checkpoints / LAST
        same = best.exists() and best.samefile(last)
        _lighten(last)
        if same:
            link_atomically(last, best)
        elif best.exists():
            _lighten(best)


def _lighten(path: Path) -> None:
    content = read_checkpoint(path)
    write_sealed({key: content[key] for key in AutoencoderModule.WEIGHTS if key in content}, path)
