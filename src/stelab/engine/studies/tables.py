"""The tables of studies: read from the folders of their runs, or as others wrote them."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from typing_extensions import Self

from stelab.engine.archives import located, studies_in
from stelab.engine.config.identity import fingerprint_of_resolved
from stelab.engine.errors import InputError, first_line
from stelab.engine.project import project
from stelab.engine.studies.curves import Curves, read_curves
from stelab.engine.studies.headline import Headline
from stelab.engine.studies.places import is_table, may_be_run
from stelab.engine.studies.record import Run, RunFolder, read_run
from stelab.engine.studies.run_format import (
    is_as_recorded,
    is_finite,
    is_name,
    part_of,
    problem_with_run,
)
from stelab.engine.studies.settings import Flat, plain_value, swept
from stelab.engine.studies.status import has_begun, state_of
from stelab.engine.studies.study import LEFT_OUT, Study, one_type_a_column
from stelab.engine.studies.sweep import planned
from stelab.engine.studies.tidy import joined, read_tables
from stelab.engine.terminal import brief, visible

# Of run.json, in the table of runs under the same names; machine, git and versions besides.
_TIMINGS = ("started", "ended", "seconds")


def load(
    *folders: Path | str,
    runs: Collection[str] | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
) -> Study:
    """Read the tables of one or several studies from the folders of their runs.

    Nothing is dropped in silence: what cannot be compared (unfinished, failed, damaged, made by
    another version of stelab than most of its study, or no run at all) is in `Study.left_out`.

    Args:
        folders: ``outputs/<study>``, one or several; the same one twice counts once. Archives of
            `stelab export` are read as the folders that they were made of, and tables (.csv,
            .parquet) as the runs of a study, see `read_tables`.
        runs: Names of the runs to read, in folders; None: all.
        columns: New names of columns in tables that are not stelab's.

    Raises:
        InputError: No folder is given, one is not there, or none holds a run; a table cannot be
            read, or no table has a column of `columns`.
    """
    if not folders:
        raise InputError("no study was named")
    studies = named([study for folder in folders for study in studies_in(Path(folder))])
    files = {study: path for study, path in studies.items() if is_table(path)}
    tables = read_tables(files, columns)
    if len(files) == len(studies):
        return joined(tables)
    entries = [
        entry
        for study, folder in studies.items()
        if study not in files
        for entry in _entries(study, folder, runs)
    ]
    if all(entry.state == "foreign" for entry in entries):
        where = ", ".join(str(folder) for folder in folders)
        raise InputError(f"{where} holds no runs (study=NAME, paths.outputs=FOLDER)")
    ours = _tables(sorted(entries, key=lambda entry: (entry.study, entry.run)))
    return joined([ours, *tables])


def named(folders: Iterable[Path | str]) -> dict[str, Path]:
    """Name studies by their folders or tables; by whole paths where two have one name."""
    paths = {Path(folder).resolve(): Path(folder) for folder in folders}  # each folder once
    names = {path: path.stem if is_table(path) else path.name for path in paths}
    counts = Counter(names.values())
    return {
        names[path] if counts[names[path]] == 1 else str(path): given
        for path, given in paths.items()
    }


@dataclass
class _Entry:
    """A folder of a study, or one that a sweep was to fill."""

    study: str  # by their names
    run: str
    state: str = "finished"  # or why it cannot be compared, in a word
    reason: str = ""  # the same in a sentence
    content: Run | None = None  # where it is a run
    curves: Curves | None = None  # where it can be compared

    def leave_out(self, state: str, reason: str) -> Self:
        """Note why it cannot be compared."""
        self.state, self.reason, self.curves = state, visible(" ".join(reason.split())), None
        return self


def _entries(study: str, folder: Path, runs: Collection[str] | None) -> list[_Entry]:
    """Read every folder of a study, and what was planned; of those, only `runs` unless None."""
    if not located(folder).is_dir():
        raise InputError(f"{folder} is not there (study=NAME, paths.outputs=FOLDER)")
    jobs, unreadable = planned(folder)
    lists = [_Entry(study, name).leave_out("unreadable", why) for name, why in unreadable.items()]
    try:
        names = {path.name for path in located(folder).iterdir() if may_be_run(path)}
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error}") from error
    entries = [
        _read(study, folder / name, planned=name in jobs)
        for name in sorted({*names, *jobs})
        if runs is None or name in runs
    ]
    _leave_out_other_versions(entries)
    # A planned run is not missing where its folder was renamed.
    ids = {str(e.content.record.get("fingerprint"))[:8] for e in entries if e.content}
    entries = [e for e in entries if e.state != "missing" or e.run.rpartition("-")[2] not in ids]
    return [*(lists if runs is None else []), *entries]


def _read(study: str, folder: Path, *, planned: bool) -> _Entry:
    entry = _Entry(study, visible(folder.name))
    if not (planned or has_begun(folder)):
        reason = "there is no run.json in it" if located(folder).exists() else "a link to nothing"
        return entry.leave_out("foreign", reason)
    if not is_name(folder.name):
        return entry.leave_out("unreadable", "its name cannot be written: rename the folder")
    state = state_of(folder)
    try:
        run = read_run(folder, record=state.record)
    except InputError as error:
        known = state.state if state.state != "finished" else "unreadable"
        return entry.leave_out(known, state.note or ("" if known == "missing" else str(error)))
    if problem := problem_with_run(run):
        return entry.leave_out("broken", problem)
    entry.content = run
    if state.state != "finished":
        return entry.leave_out(state.state, state.note)
    if broken := [name for name, value in run.metrics.items() if not is_finite(value)]:
        values = ", ".join(f"{name} is {brief(run.metrics[name])}" for name in broken)
        return entry.leave_out("broken", f"run.json: {values}")
    try:
        # Runs of before stelab counted epochs had to take all of them.
        epochs = run.record.get("epochs", run.config["trainer"].get("max_epochs"))
        entry.curves = read_curves(RunFolder(run.folder).metrics, epochs=epochs)
    except (OSError, ValueError) as error:
        return entry.leave_out("broken", f"metrics.csv: {first_line(error)}")
    return entry


def _leave_out_other_versions(entries: Sequence[_Entry]) -> None:
    """Compare only runs of the version of stelab that most of a study were made with."""
    versions = [
        (entry, str(part_of(entry.content.record, "versions").get("stelab", "unknown")))
        for entry in entries
        if entry.content is not None and entry.curves is not None
    ]
    counts = Counter(version for _, version in versions)
    usual = max(counts, key=lambda version: (counts[version], version), default="")
    for entry, version in versions:
        if version != usual:
            reason = f"made by stelab {version}, most of its study by {usual}"
            entry.leave_out("other version", reason)


def _tables(entries: Sequence[_Entry]) -> Study:
    runs = [(entry, entry.content) for entry in entries if entry.content is not None]
    settings = swept([run for _, run in runs])
    rows = [_row(entry, run, flat) for (entry, run), flat in zip(runs, settings, strict=True)]
    columns = dict.fromkeys(["study", "run", "status", *(key for row in rows for key in row)])
    table = pd.DataFrame(rows, columns=list(columns))
    keys = tuple(dict.fromkeys(key for flat in settings for key in flat))
    table.insert(len(table.columns) - ("folder" in table), "swept", ",".join(keys))
    table = one_type_a_column(table)
    left_out = [
        {name: str(getattr(entry, name)) for name in LEFT_OUT}
        for entry in entries
        if entry.state != "finished"
    ]
    return Study(
        runs=table,
        curves=_curves(entries),
        left_out=pd.DataFrame(left_out, columns=list(LEFT_OUT)),
        swept=keys,
    )


def _row(entry: _Entry, run: Run, settings: Flat) -> dict[str, Any]:
    parts = {name: part_of(run.record, name) for name in ("machine", "git", "versions", "timings")}
    parts["timings"] = {name: parts["timings"].get(name) for name in _TIMINGS}
    edited = not is_as_recorded(run)
    headline = Headline.of(run.record)
    identity = fingerprint_of_resolved(run.config) if edited else run.record.get("fingerprint")
    return {
        "study": entry.study,
        "run": entry.run,
        "status": run.status,
        **{name: run.config["names"].get(name) for name in project().named_groups},
        **settings,
        "seed": run.config.get("seed"),
        **({"effect": run.record["effect"]} if run.record.get("effect") else {}),
        "epochs": float(len(entry.curves["epoch"])) if entry.curves else math.nan,
        **{n: value for n, value in run.metrics.items() if "/" in n and is_finite(value)},
        **{f"{name}.{key}": _cell(v) for name, part in parts.items() for key, v in part.items()},
        **({"tags": ", ".join(tags)} if (tags := run.record.get("tags")) else {}),
        "fingerprint": _cell(identity),
        "edited": edited,
        "headline": headline.metric,
        "better": headline.better,
        "folder": str(run.folder),
    }


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, bool) else plain_value(value)


def _curves(entries: Sequence[_Entry]) -> pd.DataFrame:
    """Put the curves below each other, column by column: a thousand frames would take longer."""
    curves = [(entry, entry.curves) for entry in entries if entry.curves is not None]
    names = dict.fromkeys(["epoch", "step", *(name for _, columns in curves for name in columns)])
    table: dict[str, Any] = {
        name: [getattr(entry, name) for entry, columns in curves for _ in columns["epoch"]]
        for name in ("study", "run")
    }
    for name in names:
        parts = (cols.get(name, np.full(len(cols["epoch"]), math.nan)) for _, cols in curves)
        table[name] = np.concatenate([np.empty(0), *parts])
    frame = pd.DataFrame(table)
    return frame.assign(epoch=frame["epoch"].astype(int) + 1, step=frame["step"].astype(int))
