"""What lies in a study's folder, and what of it can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from stelab.engine.errors import InputError
from stelab.engine.studies.curves import Curves, read_curves
from stelab.engine.studies.record import Run, read_run
from stelab.engine.studies.run_folder import RunFolder
from stelab.engine.studies.run_format import is_finite, is_name, part_of, problem_with_run
from stelab.engine.studies.status import has_begun, state_of
from stelab.engine.studies.sweep import FOLDER as SWEEPS
from stelab.engine.studies.sweep import planned
from stelab.engine.terminal import brief, visible

COMPARISON = "comparison"
"""Where `stelab compare` writes, inside a study's folder."""


@dataclass
class Entry:
    """A folder in a study's (or a sweep's list), and why it cannot be compared, if it cannot.

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
    curves: Curves | None = None

    def leave_out(self, state: str, reason: str) -> Entry:
        """Say why it cannot be compared."""
        self.state, self.reason, self.curves = state, visible(" ".join(reason.split())), None
        return self


def find_entries(study: str, folder: Path, runs: Collection[str] | None) -> list[Entry]:
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
    jobs, unreadable = planned(folder)
    damaged = [Entry(study, name).leave_out("unreadable", why) for name, why in unreadable.items()]
    found = [
        _look(study, folder / name, planned=name in jobs)
        for name in sorted({*_names(folder), *jobs})
        if runs is None or name in runs
    ]
    _leave_out_other_versions(found)
    return [*(damaged if runs is None else []), *_without_renamed(found)]


def _names(study: Path) -> set[str]:
    try:
        return {path.name for path in study.iterdir() if _may_be_a_run(path)}
    except OSError as error:
        raise InputError(f"{study} cannot be read: {error}") from error


def _may_be_a_run(path: Path) -> bool:
    """Tell whether it is a folder, or a link to what was one, that stelab itself did not make."""
    if path.name == SWEEPS or path.name.startswith("."):
        return False
    if path.name == COMPARISON or path.name.startswith(f"{COMPARISON}-with-"):
        return has_begun(path)
    return path.is_dir() or _leads_nowhere(path)


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _without_renamed(found: Sequence[Entry]) -> list[Entry]:
    """Drop planned names that are missing because the folder of their run has another one."""
    there = {str(each.run.record.get("fingerprint"))[:8] for each in found if each.run}

    def is_renamed(each: Entry) -> bool:
        return each.state == "missing" and not each.run and each.name.rpartition("-")[2] in there

    return [each for each in found if not is_renamed(each)]


def _look(study: str, folder: Path, *, planned: bool) -> Entry:
    found = Entry(study, visible(folder.name))
    if planned or has_begun(folder):
        if is_name(folder.name):
            return _read(found, folder)
        return found.leave_out("unreadable", "its name cannot be written: rename the folder")
    nowhere = _leads_nowhere(folder)
    return found.leave_out(
        "foreign", "a link to nothing" if nowhere else "there is no run.json in it"
    )


def _read(found: Entry, folder: Path) -> Entry:
    state = state_of(folder)
    try:
        run = read_run(folder, record=state.record)
    except InputError as error:
        known = state.state if state.state != "finished" else "unreadable"
        return found.leave_out(known, state.note or ("" if known == "missing" else str(error)))
    if flaw := problem_with_run(run):
        return found.leave_out("broken", flaw)
    found.run = run
    if state.state != "finished":
        return found.leave_out(state.state, state.note)
    return _measure(found, run)


def _measure(found: Entry, run: Run) -> Entry:
    """Check the final metrics, and read the others."""
    if broken := [name for name, value in run.metrics.items() if not is_finite(value)]:
        named = ", ".join(f"{name} is {brief(run.metrics[name])}" for name in broken)
        return found.leave_out("broken", f"run.json: {named}")
    try:
        # Runs of before stelab counted epochs had to take all of them.
        epochs = run.record.get("epochs", run.config["trainer"].get("max_epochs"))
        found.curves = read_curves(RunFolder(run.folder).metrics, epochs=epochs)
    except (OSError, ValueError) as error:
        return found.leave_out("broken", f"metrics.csv: {error}")
    return found


def _leave_out_other_versions(found: Sequence[Entry]) -> None:
    """Compare only runs of the version of stelab that most of a study were made with."""
    versions = [(each, _version(each)) for each in found if each.curves is not None]
    counts = Counter(version for _, version in versions)
    most = max(counts, key=lambda version: (counts[version], version), default="")
    for each, version in versions:
        if version != most:
            each.leave_out(
                "other version", f"made by stelab {version}, most of its study by {most}"
            )


def _version(each: Entry) -> str:
    assert each.run is not None
    return str(part_of(each.run.record, "versions").get("stelab", "unknown"))
