"""How far a study has come, from its folder alone."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from stelab.errors import InputError
from stelab.studies.flaws import flaw_of_config, is_finite, part_of
from stelab.studies.lock import holder, is_locked
from stelab.studies.record import PROGRESS, STATUSES, read_record, read_run, reason
from stelab.studies.settings import swept
from stelab.studies.sweep import settings_of

LOSSES = ("train/loss", "val/loss")


@dataclass(frozen=True)
class RunState:
    """How far a run has come.

    Attributes:
        name: The run id.
        state: ``"running"``: a living process holds its lock; ``"finished"``; ``"failed"``;
            ``"interrupted"``: stopped by a signal or killed, the same command continues it;
            ``"pruned"``; ``"missing"``: a sweep was to run it; ``"unreadable"``.
        note: Why it failed or is unreadable, or who runs it.
        settings: What was swept, where several runs were asked for.
        step: Optimizer steps taken, of a running run that has begun to train.
        steps: Optimizer steps in all, of the same.
        left: Seconds that it still needs at its pace so far, of the same.
        seconds: How long a finished run took.
        losses: The last ``train/loss`` and ``val/loss``, as far as they are known.
    """

    name: str
    state: str
    note: str = ""
    settings: str = ""
    step: int | None = None
    steps: int | None = None
    left: float | None = None
    seconds: float | None = None
    losses: dict[str, float] = field(default_factory=dict)


def survey(study: Path) -> list[RunState]:
    """Return the state of every run that a study holds or was to hold.

    Raises:
        InputError: There is no such study, or nothing in it.
    """
    runs = {path.parent.name for path in study.glob("*/run.json")}
    runs |= {path.parent.name for path in study.glob("*/lock")}
    settings = settings_of(study)
    others = sorted(runs - {*settings})
    if not settings and not others:
        raise InputError(f"{study} holds no runs (study=NAME, paths.outputs=FOLDER)")
    settings |= _settings_of_configs([study / name for name in others])
    return [replace(state_of(study / name), settings=text) for name, text in settings.items()]


def time_left(states: Sequence[RunState]) -> float | None:
    """Estimate the seconds until all runs of a study have ended, while a sweep goes on.

    What has not begun is taken to need as long as those that are finished did on the average, with
    as many at once as are running now. None where nothing is left, or nothing is known yet.
    """
    running = [state for state in states if state.state == "running"]
    waiting = sum(state.state in ("missing", "interrupted") for state in states)
    took = [state.seconds for state in states if state.seconds is not None]
    lefts = [state.left for state in running]
    known = [left for left in lefts if left is not None]
    unknown = len(lefts) - len(known) + waiting
    if not (known or unknown) or (unknown and not took):
        return None
    rest = sum(known) + (unknown * fmean(took) if took else 0)
    return max([*known, rest / max(len(running), 1)])


def _settings_of_configs(folders: Sequence[Path]) -> dict[str, str]:
    """Name runs that no list of a sweep has, such as those that Optuna chose, by config.yaml."""
    configs = {folder.name: config for folder in folders if (config := _config(folder))}
    flats = dict(zip(configs, swept([*configs.values()]), strict=True))
    return {
        folder.name: " ".join(f"{k}={v}" for k, v in flats.get(folder.name, {}).items())
        for folder in folders
    }


@cache
def _config(folder: Path) -> dict[str, Any] | None:
    try:
        config = read_run(folder).config
    except InputError:
        return None
    return None if flaw_of_config(config) else config


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
    seconds = part_of(record, "timings").get("seconds") if status == "finished" else None
    return RunState(
        name,
        state,
        reason(record),
        seconds=seconds if is_finite(seconds) else None,
        losses=_losses(record["metrics"]),
    )


def _progress(folder: Path) -> dict[str, Any]:
    """Read progress.json as far as it makes sense: it may be anybody's, or of an older stelab."""
    path = folder / PROGRESS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        step, steps, left = content["step"], content["steps"], content.get("left")
        since = time.time() - path.stat().st_mtime
        losses = _losses(content.get("losses", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    if not (is_finite(step) and is_finite(steps)):
        return {}
    left = max(left - since, 0) if is_finite(left) else None
    return {"step": step, "steps": steps, "left": left, "losses": losses}


def _losses(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: metrics[name] for name in LOSSES if is_finite(metrics.get(name))}
