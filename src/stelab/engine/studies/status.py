"""How far a study has come, from its folder alone."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from stelab.engine.archives import located
from stelab.engine.errors import InputError
from stelab.engine.project import project
from stelab.engine.studies.documents import read_json
from stelab.engine.studies.lock import holder, is_locked
from stelab.engine.studies.record import Run, RunFolder, read_record, read_run, reason
from stelab.engine.studies.run_format import is_finite, part_of, problem_with_run
from stelab.engine.studies.settings import swept
from stelab.engine.studies.sweep import planned, settings_of
from stelab.engine.terminal import visible

_MAX_BYTES = 2**16  # of progress.json


@dataclass(frozen=True)
class RunState:
    """How far a run has come."""

    name: str
    # "running": a living process holds its lock; "interrupted": a signal stopped or killed it;
    # "missing": a sweep was to run it; "unreadable"; or run.json's "finished", "failed", "pruned".
    state: str
    note: str = ""  # why it failed or is unreadable, or who runs it
    settings: str = ""  # what was swept, where several runs were asked for
    step: int | None = None  # optimizer steps taken, of a run that trains now
    steps: int | None = None  # and in all
    left: float | None = None  # seconds that it still needs at its pace so far
    seconds: float | None = None  # that a finished run took
    losses: dict[str, float] = field(default_factory=dict)  # the last, as far as they are known
    record: dict[str, Any] | None = field(default=None, repr=False, compare=False)


def survey(study: Path) -> list[RunState]:
    """Return the state of every run that a study holds or was to hold; refuse one without any."""
    (_, unreadable), names, settings = planned(study), names_of(study), settings_of(study)
    if not names and not unreadable:
        raise InputError(f"{study} holds no runs (study=NAME, paths.outputs=FOLDER)")
    settings |= _settings_of_runs([study / name for name in names if name not in settings])
    lists = [RunState(name, "unreadable", note) for name, note in unreadable.items()]
    runs = [replace(state_of(study / name), settings=text) for name, text in settings.items()]
    return [*lists, *runs]


def names_of(study: Path) -> list[str]:
    """Return the names of all runs that a study was to hold, then of those that it holds."""
    jobs, _ = planned(study)
    begun = [path.name for path in sorted(located(study).glob("*")) if has_begun(path)]
    return [*dict.fromkeys([*jobs, *begun])]


def has_begun(folder: Path) -> bool:
    """Return whether anything in a folder says that it is a run's."""
    for name in ("run.json", "lock"):
        try:
            os.lstat(located(folder) / name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            pass  # `state_of` says why
        return True
    return False


def time_left(states: Sequence[RunState]) -> float | None:
    """Estimate the seconds until all have ended, each as long as a finished one; None: unknown."""
    running = [state for state in states if state.state == "running"]
    waiting = sum(state.state in ("missing", "interrupted") for state in states)
    durations = [state.seconds for state in states if state.seconds is not None]
    known = [state.left for state in running if state.left is not None]
    unknown = len(running) - len(known) + waiting
    if not (known or unknown) or (unknown and not durations):
        return None
    rest = sum(known) + (unknown * fmean(durations) if durations else 0)
    return max([*known, rest / max(len(running), 1)])  # as many at once as now


def _settings_of_runs(folders: Sequence[Path]) -> dict[str, str]:
    """Name runs that no list of a sweep has, such as those that Optuna chose, by their settings."""
    runs = {folder.name: run for folder in folders if (run := _run(folder))}
    flats = dict(zip(runs, swept([*runs.values()]), strict=True))
    return {
        folder.name: " ".join(f"{k}={v}" for k, v in flats.get(folder.name, {}).items())
        for folder in folders
    }


@cache
def _run(folder: Path) -> Run | None:
    try:
        run = read_run(folder)
    except InputError:
        return None
    return None if problem_with_run(run) else run


def state_of(folder: Path) -> RunState:
    """Return the state of one run."""
    name = visible(folder.name)
    try:
        if is_locked(located(folder)):
            return RunState(name, "running", holder(folder), **_progress(folder))
        if not os.path.lexists(located(folder) / "run.json"):
            return RunState(name, "missing")
        record = read_record(folder)
    except (InputError, OSError) as error:
        return RunState(name, "unreadable", visible(str(error)))
    status = record["status"]
    return RunState(
        name,
        "interrupted" if status == "running" else status,
        reason(record),
        seconds=part_of(record, "timings").get("seconds") if status == "finished" else None,
        losses=_losses(record["metrics"]),
        record=record,
    )


def _progress(folder: Path) -> dict[str, Any]:
    """Read progress.json as far as it makes sense: it may be anybody's, or of an older stelab."""
    path = RunFolder(folder).progress
    try:
        content = read_json(path, limit=_MAX_BYTES)
        age = time.time() - path.stat().st_mtime
        step, steps, left = (content.get(name) for name in ("step", "steps", "left"))
    except (OSError, ValueError, AttributeError):  # the last of what is no table
        return {}
    if not (is_finite(step) and is_finite(steps)):
        return {}
    return {
        "step": step,
        "steps": steps,
        "left": max(left - age, 0) if left is not None and is_finite(left) else None,
        "losses": _losses(part_of(content, "losses")),
    }


def _losses(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: metrics[name] for name in project().losses if is_finite(metrics.get(name))}
