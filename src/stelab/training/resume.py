"""Make a run's folder what it was when a checkpoint was saved."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stelab.studies import lock
from stelab.studies.files import write_atomically
from stelab.training.checkpoint_file import newest_whole

# What is written while training goes on. Event files only grow; the table is small.
_EVENTS, _TABLE = "tb", "metrics.csv"


def logged(folder: Path) -> dict[str, Any]:
    """Return what a checkpoint must know of the logs, to be able to go back to them."""
    events = sorted(path for path in (folder / _EVENTS).rglob("*") if path.is_file())
    table = folder / _TABLE
    return {
        "events": {str(path.relative_to(folder)): path.stat().st_size for path in events},
        "table": table.read_text(encoding="utf-8") if table.exists() else None,
    }


@dataclass(frozen=True)
class Start:
    """Where a run starts from.

    Attributes:
        checkpoint: To load; None: from scratch.
        step: Optimizer steps that were taken then.
        metrics: Of the last epoch before it.
    """

    checkpoint: Path | None = None
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


def rewind(folder: Path) -> Start:
    """Go back to the newest whole checkpoint, or to an empty folder.

    What was logged after the checkpoint is removed: training will log it again.
    """
    checkpoint = newest_whole(folder / "checkpoints")
    if checkpoint is None:
        empty(folder)
        return Start()
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    _cut_events(folder, content["logged"]["events"])
    table = content["logged"]["table"]
    if table is None:
        (folder / _TABLE).unlink(missing_ok=True)
    else:
        write_atomically(folder / _TABLE, table)
    for leftover in (folder / "checkpoints").glob(".*"):  # of a write that was killed
        leftover.unlink()
    return Start(checkpoint, content["global_step"], content["metrics"])


def _cut_events(folder: Path, sizes: dict[str, int]) -> None:
    for path in (folder / _EVENTS).rglob("*"):
        name = str(path.relative_to(folder))
        if name not in sizes:
            path.unlink()
        elif path.stat().st_size > sizes[name]:
            with path.open("r+b") as file:
                file.truncate(sizes[name])


def empty(folder: Path) -> None:
    """Remove all but the lock."""
    for path in folder.iterdir():
        if path.name == lock.NAME:
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
