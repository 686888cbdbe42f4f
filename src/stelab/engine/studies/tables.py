"""A study as two tables: one row a run, and one row an epoch of a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stelab.engine.config.identity import fingerprint_of_resolved
from stelab.engine.errors import InputError
from stelab.engine.files import write_atomically
from stelab.engine.project import project
from stelab.engine.studies.entries import Entry, find_entries
from stelab.engine.studies.record import Run
from stelab.engine.studies.run_format import is_as_recorded, is_finite, part_of
from stelab.engine.studies.settings import Flat, plain_value, swept

TABLES = ("runs", "curves", "left_out")
# Of run.json, in the table of runs under the same names; machine, git and versions besides.
_TIMINGS = ("started", "ended", "seconds")
_LEFT_OUT = ("study", "run", "state", "reason")


@dataclass(frozen=True)
class Study:
    """All that the folders of one or several studies say.

    Attributes:
        runs: One row a run whose run.json and config.yaml are sound, sorted by study and run:
            `study`, `run`, `status`, the names of its groups, every swept setting, `seed`,
            `effect` (the metric that is 0 where what sets the run apart does nothing), `epochs`
            (trained), the final metrics (which have a slash), `timings.*`, `machine.*`,
            `git.*`, `versions.*`, `tags` (where a run has any), `fingerprint` (of config.yaml),
            `edited` (run.json has another one), `folder`. A setting that a run does not have is
            missing.
        curves: One row an epoch of a finished run: `study`, `run`, `epoch` (from 1), `step` and
            the metrics.
        left_out: One row a run or folder that cannot be compared, or unreadable list of a sweep:
            `study`, `run`, `state` and `reason`.
        swept: The settings in which the runs differ, such as ``"threshold.value"``.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    left_out: pd.DataFrame
    swept: tuple[str, ...]

    @property
    def finished(self) -> pd.DataFrame:
        """The rows of runs that can be compared: all that are not in `left_out`."""
        left_out = pd.MultiIndex.from_frame(self.left_out[["study", "run"]])
        rows = pd.MultiIndex.from_frame(self.runs[["study", "run"]])
        return self.runs[~rows.isin(left_out)]

    def only(self, studies: Collection[str]) -> Study:
        """Return the tables of some of the studies."""
        tables = {name: getattr(self, name) for name in TABLES}
        kept = {name: table[table["study"].isin(studies)] for name, table in tables.items()}
        return replace(self, **kept)

    def write(self, folder: Path) -> None:
        """Write ``runs``, ``curves`` and ``left_out``, each as .csv and as .parquet."""
        for name in TABLES:
            write_table(getattr(self, name), folder / name)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as ``<path>.csv`` and ``<path>.parquet``, whatever had these names before."""
    write_atomically(path.with_name(f"{path.name}.csv"), table.to_csv(index=False))
    write_atomically(path.with_name(f"{path.name}.parquet"), table.to_parquet(index=False))


def load(*folders: Path | str, runs: Collection[str] | None = None) -> Study:
    """Read the tables of one or several studies from the folders of their runs.

    Nothing is dropped in silence: what cannot be compared (unfinished, failed, damaged, made by
    another version of stelab than most of its study, or no run at all) is in `Study.left_out`.

    Args:
        folders: ``outputs/<study>``, one or several; the same one twice counts once.
        runs: Names of the runs to read; None: all.

    Raises:
        InputError: No folder is given, one is not there, or none holds a run.
    """
    if not folders:
        raise InputError("no study was named")
    found = [
        each
        for study, folder in named(folders).items()
        for each in find_entries(study, folder, runs)
    ]
    if all(each.state == "foreign" for each in found):
        where = ", ".join(str(folder) for folder in folders)
        raise InputError(f"{where} holds no runs (study=NAME, paths.outputs=FOLDER)")
    return _tables(sorted(found, key=lambda each: (each.study, each.name)))


def named(folders: Iterable[Path | str]) -> dict[str, Path]:
    """Name studies by their folders; by whole paths where two folders have one name."""
    paths = {Path(folder).resolve(): Path(folder) for folder in folders}  # each folder once
    counts = Counter(path.name for path in paths)
    return {
        path.name if counts[path.name] == 1 else str(path): given for path, given in paths.items()
    }


def _tables(found: Sequence[Entry]) -> Study:
    readable = [(each, each.run) for each in found if each.run is not None]
    settings = swept([run for _, run in readable])
    keys = list(dict.fromkeys(key for flat in settings for key in flat))
    rows = [_row(each, run, flat) for (each, run), flat in zip(readable, settings, strict=True)]
    left_out = [
        {name: str(getattr(each, "name" if name == "run" else name)) for name in _LEFT_OUT}
        for each in found
        if each.state != "finished"
    ]
    return Study(
        runs=_without_mixtures(_frame(rows, first=("study", "run", "status"))),
        curves=_curves(found),
        left_out=pd.DataFrame(left_out, columns=list(_LEFT_OUT)),
        swept=tuple(keys),
    )


def _row(each: Entry, run: Run, settings: Flat) -> dict[str, Any]:
    parts = {name: part_of(run.record, name) for name in ("machine", "git", "versions", "timings")}
    parts["timings"] = {name: parts["timings"].get(name) for name in _TIMINGS}
    return {
        "study": each.study,
        "run": each.name,
        "status": run.status,
        **{name: run.config["names"].get(name) for name in project().named_groups},
        **settings,
        "seed": run.config.get("seed"),
        **({"effect": run.record["effect"]} if run.record.get("effect") else {}),
        "epochs": float(len(each.curves["epoch"])) if each.curves else math.nan,
        **{n: value for n, value in run.metrics.items() if "/" in n and is_finite(value)},
        **{f"{name}.{key}": _cell(v) for name, part in parts.items() for key, v in part.items()},
        **({"tags": ", ".join(tags)} if (tags := run.record.get("tags")) else {}),
        **_identity(run),
        "folder": str(run.folder),
    }


def _identity(run: Run) -> dict[str, Any]:
    """Return the fingerprint of config.yaml, and whether run.json has another one."""
    if is_as_recorded(run):
        return {"fingerprint": _cell(run.record.get("fingerprint")), "edited": False}
    return {"fingerprint": fingerprint_of_resolved(run.config), "edited": True}


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, bool) else plain_value(value)


def _frame(rows: Sequence[dict[str, Any]], *, first: Sequence[str]) -> pd.DataFrame:
    columns = dict.fromkeys([*first, *(key for row in rows for key in row)])
    return pd.DataFrame(rows, columns=list(columns))


def _without_mixtures(table: pd.DataFrame) -> pd.DataFrame:
    """Make columns of several types texts: Parquet has none such."""
    for name in table.columns:
        kinds = {_kind(value) for value in table[name].dropna()}
        if len(kinds) > 1:
            table[name] = [v if pd.isna(v) else str(v) for v in table[name]]
    return table


def _kind(value: Any) -> type:
    return next((kind for kind in (str, bool, float) if isinstance(value, kind)), float)


def _curves(found: Sequence[Entry]) -> pd.DataFrame:
    """Put the curves below each other, column by column: a thousand frames would take longer."""
    curves = [(each, each.curves) for each in found if each.curves is not None]
    names = dict.fromkeys(["epoch", "step", *(name for _, own in curves for name in own)])
    table: dict[str, Any] = {
        "study": [each.study for each, own in curves for _ in own["epoch"]],
        "run": [each.name for each, own in curves for _ in own["epoch"]],
    }
    for name in names:
        columns = (own.get(name, np.full(len(own["epoch"]), math.nan)) for _, own in curves)
        table[name] = np.concatenate([np.empty(0), *columns])
    frame = pd.DataFrame(table)
    counts = {"epoch": frame["epoch"].astype(int) + 1, "step": frame["step"].astype(int)}
    return frame.assign(**counts)
