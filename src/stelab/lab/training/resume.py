"""A run's folder, taken back to where training continues from."""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, NonNegativeInt, ValidationError

from stelab.engine.errors import InputError
from stelab.engine.files import require_own, write_atomically
from stelab.engine.studies.record import RunFolder
from stelab.lab.training.checkpoint_file import LAST, PREVIOUS, mismatch, read_checkpoint
from stelab.lab.training.module import TaskModule

log = logging.getLogger(__name__)


class _Logs(BaseModel):
    events: dict[str, NonNegativeInt]
    table: str | None


class _Saved(BaseModel):
    """What a checkpoint says of its run, beside what Lightning reads; see `logged`."""

    global_step: NonNegativeInt
    metrics: dict[str, float]
    logged: _Logs


def logged(folder: RunFolder) -> dict[str, Any]:
    """Return what it takes to restore the logs: sizes of files that only grow, and a table."""
    events = sorted(path for path in folder.events.rglob("*") if path.is_file())
    table = folder.metrics
    return {
        "events": {str(path.relative_to(folder.path)): path.stat().st_size for path in events},
        "table": table.read_text(encoding="utf-8") if table.exists() else None,
    }


@dataclass(frozen=True)
class Start:
    """Where a run starts: from a checkpoint (None: from scratch), its step, its last metrics."""

    checkpoint: Path | None = None
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


def rewind(folder: RunFolder, module: TaskModule) -> Start:
    """Go back to the newest checkpoint that `module` can continue from, or to an empty folder.

    What was logged after the checkpoint is removed: training will log it again. Checkpoints that
    are damaged or another network's are deleted, with a warning.
    """
    require_own(folder.checkpoints, folder.events, folder.figures)
    if (newest := _newest(folder.checkpoints, module)) is None:
        folder.empty()
        return Start()
    checkpoint, content = newest
    sizes = content["logged"]["events"]
    for path in folder.events.rglob("*"):
        name = str(path.relative_to(folder.path))
        if path.is_dir() and not path.is_symlink():
            continue
        if name not in sizes or path.is_symlink():  # what a link leads to is not the run's
            path.unlink()
        elif path.stat().st_size > sizes[name]:
            os.truncate(path, sizes[name])
    if (table := content["logged"]["table"]) is None:
        folder.metrics.unlink(missing_ok=True)
    else:
        write_atomically(folder.metrics, table)
    folder.remove_half_written()
    return Start(checkpoint, content["global_step"], content["metrics"])


def _newest(folder: Path, module: TaskModule) -> tuple[Path, dict[str, Any]] | None:
    network: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(network)
    for path in (folder / LAST, folder / PREVIOUS):
        if not os.path.lexists(path):
            continue
        if not path.is_file():  # perhaps somebody's; and nothing could take its place
            raise InputError(f"{path} must be a checkpoint, but is no file: move it away")
        try:
            content = read_checkpoint(path)
            if difference := mismatch(content["state_dict"], network["state_dict"]):
                raise InputError(f"{path} is of another network: {difference}")
            try:
                _Saved.model_validate(content)
            except ValidationError as error:
                raise InputError(f"{path} does not say what was logged") from error
            return path, content
        except InputError as error:
            log.warning("%s: going back to the one before", error)
            path.unlink()
    return None
