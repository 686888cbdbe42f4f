"""How far a study has come, from its folder alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stelab.errors import InputError
from stelab.studies.lock import holder, is_locked
from stelab.studies.record import PROGRESS, STATUSES, read_record, reason
from stelab.studies.sweep import planned


@dataclass(frozen=True)
class RunState:
    """How far a run has come.

    Attributes:
        name: The run id.
        state: ``"running"``: a living process holds its lock; ``"finished"``; ``"failed"``;
            ``"interrupted"``: stopped by a signal or killed, the same command continues it;
            ``"pruned"``; ``"missing"``: a sweep was to run it; ``"unreadable"``.
        note: Why it failed or is unreadable, or who runs it.
        step: Optimizer steps taken, of a running run that has begun to train.
        steps: Optimizer steps in all, of the same.
    """

    name: str
    state: str
    note: str = ""
    step: int | None = None
    steps: int | None = None


def survey(study: Path) -> list[RunState]:
    """Return the state of every run that a study holds or was to hold.

    Raises:
        InputError: There is no such study, or nothing in it.
    """
    runs = {path.parent.name for path in study.glob("*/run.json")}
    runs |= {path.parent.name for path in study.glob("*/lock")}
    names = dict.fromkeys([*planned(study), *sorted(runs)])
    if not names:
        raise InputError(f"{study} holds no runs (study=NAME, paths.outputs=FOLDER)")
    return [state_of(study / name) for name in names]


def state_of(folder: Path) -> RunState:
    """Return the state of one run."""
    name = folder.name
    if is_locked(folder):
        return RunState(name, "running", holder(folder), **_progress(folder))
    if not (folder / "run.json").exists():
        return RunState(name, "missing")
    try:
        record = read_record(folder)
    except InputError as error:
        return RunState(name, "unreadable", str(error))
    if (status := record["status"]) not in STATUSES:
        return RunState(name, status, f"its status is '{status}', which is none of stelab's")
    state = "interrupted" if status == "running" else status
    return RunState(name, state, reason(record))


def _progress(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        return {"step": content["step"], "steps": content["steps"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
