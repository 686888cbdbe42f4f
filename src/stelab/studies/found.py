"""What lies in a study's folder, and what of it can be compared."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stelab.errors import InputError
from stelab.studies.curves import read_curves
from stelab.studies.record import Run, read_run
from stelab.studies.status import state_of
from stelab.studies.sweep import FOLDER as SWEEPS
from stelab.studies.sweep import planned

COMPARISON = "comparison"
"""Where `stelab compare` writes, inside a study's folder."""


@dataclass
class Found:
    """A folder in a study's, and why it cannot be compared, if it cannot.

    Attributes:
        study: The study's name.
        name: The folder's.
        state: ``"finished"``, or why it cannot be compared in a word.
        reason: The same in a sentence.
        run: What is in it, where it is a run.
        curves: Its metrics.csv, a column a metric, where it can be compared.
    """

    study: str
    name: str
    state: str = "finished"
    reason: str = ""
    run: Run | None = None
    curves: dict[str, list[float]] | None = None

    def leave_out(self, state: str, reason: str) -> Found:
        """Say why it cannot be compared."""
        self.state, self.reason, self.curves = state, reason, None
        return self


def find(study: str, folder: Path, runs: Collection[str] | None) -> list[Found]:
    """Look at every folder of a study, and at those that were planned.

    Args:
        study: Its name.
        folder: Where it is.
        runs: Names of the folders to look at; None: all.

    Raises:
        InputError: There is no such folder, or it cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not there (study=NAME, paths.outputs=FOLDER)")
    names = [name for name in _names(folder) if runs is None or name in runs]
    found = [_look(study, folder / name) for name in names]
    _leave_out_other_versions(found)
    return found


def _names(study: Path) -> list[str]:
    own = {SWEEPS, COMPARISON}
    try:
        names = {path.name for path in study.iterdir() if path.is_dir()}
    except OSError as error:
        raise InputError(f"{study} cannot be read: {error}") from error
    names = {name for name in names if not name.startswith((".", f"{COMPARISON}-"))}
    return sorted((names - own) | set(planned(study)))


def _look(study: str, folder: Path) -> Found:
    found = Found(study, folder.name)
    try:
        return _read(found, folder)
    except OSError as error:
        return found.leave_out("unreadable", str(error))


def _read(found: Found, folder: Path) -> Found:
    begun = any((folder / name).exists() for name in ("run.json", "lock"))
    if not begun and folder.name not in planned(folder.parent):
        return found.leave_out("foreign", "there is no run.json in it")
    state = state_of(folder)
    try:
        run = read_run(folder)
    except InputError as error:
        known = state.state if state.state != "finished" else "unreadable"
        return found.leave_out(known, state.note or ("" if known == "missing" else str(error)))
    if not _is_ours(run.config):
        return found.leave_out("unreadable", "config.yaml is not one of stelab's")
    found.run = run
    if state.state != "finished":
        return found.leave_out(state.state, state.note)
    if broken := [name for name, value in run.metrics.items() if not is_finite(value)]:
        named = ", ".join(f"{name} is {run.metrics[name]}" for name in broken)
        return found.leave_out("broken", f"run.json: {named}")
    try:
        epochs = run.config["trainer"].get("max_epochs")
        found.curves = read_curves(folder / "metrics.csv", epochs=epochs)
    except (OSError, ValueError) as error:
        return found.leave_out("broken", f"metrics.csv: {error}")
    return found


def _is_ours(config: Any) -> bool:
    names, trainer = (
        config.get(key) if isinstance(config, dict) else None for key in ("names", "trainer")
    )
    if not (isinstance(names, dict) and isinstance(trainer, dict)):
        return False
    return "estimator" in names and all(isinstance(option, str) for option in names.values())


def is_finite(value: Any) -> bool:
    """Tell whether a metric is a number that can be compared."""
    return isinstance(value, int | float) and math.isfinite(value)


def _leave_out_other_versions(found: Sequence[Found]) -> None:
    """Compare only runs of the version of stelab that most of a study were made with."""
    versions = [(each, _version(each)) for each in found if each.curves is not None]
    counts = Counter(version for _, version in versions)
    most = max(counts, key=lambda version: (counts[version], version), default="")
    for each, version in versions:
        if version != most:
            each.leave_out(
                "other version", f"made by stelab {version}, most of its study by {most}"
            )


def _version(each: Found) -> str:
    assert each.run is not None
    return str(part_of(each.run.record, "versions").get("stelab", "unknown"))


def part_of(record: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a table of run.json; empty where an old or damaged one has none."""
    part = record.get(name)
    return part if isinstance(part, dict) else {}
