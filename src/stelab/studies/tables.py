"""A study as two tables: one row a run, and one row an epoch of a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from stelab.errors import InputError
from stelab.studies.curves import read_curves
from stelab.studies.record import Run, read_run
from stelab.studies.settings import Flat, plain_value, swept
from stelab.studies.status import state_of
from stelab.studies.sweep import FOLDER as SWEEPS
from stelab.studies.sweep import planned

COMPARISON = "comparison"
"""Where `stelab compare` writes, inside a study's folder."""

TABLES = ("runs", "curves", "left_out")
NAMES = ("estimator", "threshold", "model", "data")
# Of run.json, in the table of runs under the same names; machine, git and versions besides.
_TIMINGS = ("started", "ended", "seconds")
_LEFT_OUT = ("study", "run", "state", "reason")


@dataclass(frozen=True)
class Study:
    """All that the folders of one or several studies say.

    Attributes:
        runs: One row a run whose run.json and config.yaml can be read, sorted by study and run:
            `study`, `run`, `status`, the names of its groups, every swept setting, `seed`, the
            final metrics (which have a slash), `timings.*`, `machine.*`, `git.*`, `versions.*`,
            `fingerprint`, `folder`. A setting that a run does not have is missing.
        curves: One row an epoch of a finished run: `study`, `run`, `epoch` (from 1), `step` and
            the metrics.
        left_out: One row a run or folder that cannot be compared: `study`, `run`, `state` and
            `reason`.
        swept: The settings in which the runs differ, such as ``"threshold.value"``.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    left_out: pd.DataFrame
    swept: tuple[str, ...]

    @property
    def finished(self) -> pd.DataFrame:
        """The rows of runs that can be compared: finished, whole, of one version of stelab."""
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
        folder.mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            table: pd.DataFrame = getattr(self, name)
            table.to_csv(folder / f"{name}.csv", index=False)
            table.to_parquet(folder / f"{name}.parquet", index=False)


def load(*folders: Path | str, runs: Collection[str] | None = None) -> Study:
    """Read the tables of one or several studies from the folders of their runs.

    Nothing is dropped in silence: what cannot be compared (unfinished, failed, damaged, made by
    another version of stelab than most, or no run at all) is in `Study.left_out`.

    Args:
        folders: ``outputs/<study>``, one or several; the same one twice counts once.
        runs: Names of the runs to read; None: all.

    Raises:
        InputError: A folder is not there, or none holds a run.
    """
    found: list[_Found] = []
    for study, folder in named(folders).items():
        if not folder.is_dir():
            raise InputError(f"{folder} is not there (study=NAME, paths.outputs=FOLDER)")
        names = [name for name in _names(folder) if runs is None or name in runs]
        found += [_look(study, folder / name) for name in names]
    if all(each.state == "foreign" for each in found):
        where = ", ".join(str(folder) for folder in folders)
        raise InputError(f"{where} holds no runs (study=NAME, paths.outputs=FOLDER)")
    for study in {each.study for each in found}:
        _leave_out_other_versions([each for each in found if each.study == study])
    return _tables(sorted(found, key=lambda each: (each.study, each.name)))


def named(folders: Iterable[Path | str]) -> dict[str, Path]:
    """Name studies by their folders; by whole paths where two folders have one name."""
    paths = {Path(folder).resolve(): Path(folder) for folder in folders}  # each folder once
    counts = Counter(path.name for path in paths)
    return {
        path.name if counts[path.name] == 1 else str(path): given for path, given in paths.items()
    }


@dataclass
class _Found:
    """A folder in a study's, and why it cannot be compared, if it cannot."""

    study: str
    name: str
    state: str = "finished"
    reason: str = ""
    run: Run | None = None
    curves: dict[str, list[float]] | None = None

    def leave_out(self, state: str, reason: str) -> _Found:
        self.state, self.reason, self.curves = state, reason, None
        return self


def _names(study: Path) -> list[str]:
    own = {SWEEPS, COMPARISON}
    try:
        names = {path.name for path in study.iterdir() if path.is_dir()}
    except OSError as error:
        raise InputError(f"{study} cannot be read: {error}") from error
    names = {name for name in names if not name.startswith((".", f"{COMPARISON}-"))}
    return sorted((names - own) | set(planned(study)))


def _look(study: str, folder: Path) -> _Found:
    found = _Found(study, folder.name)
    try:
        return _read(found, folder)
    except OSError as error:
        return found.leave_out("unreadable", str(error))


def _read(found: _Found, folder: Path) -> _Found:
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
    if broken := [name for name, value in run.metrics.items() if not _is_finite(value)]:
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


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _leave_out_other_versions(found: Sequence[_Found]) -> None:
    """Compare only runs of the version of stelab that most of a study were made with."""
    versions = [(each, _version(each)) for each in found if each.curves is not None]
    counts = pd.Series([version for _, version in versions], dtype=object).value_counts()
    if len(counts) < 2:
        return
    most = max(counts.index, key=lambda version: (counts[version], version))
    for each, version in versions:
        if version != most:
            each.leave_out(
                "other version", f"made by stelab {version}, most of its study by {most}"
            )


def _version(each: _Found) -> str:
    assert each.run is not None
    return str(_part(each.run.record, "versions").get("stelab", "unknown"))


def _tables(found: Sequence[_Found]) -> Study:
    readable = [(each, each.run) for each in found if each.run is not None]
    settings = swept([run.config for _, run in readable])
    keys = list(dict.fromkeys(key for flat in settings for key in flat))
    rows = [_row(each, run, flat) for (each, run), flat in zip(readable, settings, strict=True)]
    curves = [_curve(each) for each in found if each.curves is not None]
    left_out = [
        {name: str(getattr(each, "name" if name == "run" else name)) for name in _LEFT_OUT}
        for each in found
        if each.state != "finished"
    ]
    return Study(
        runs=_without_mixtures(_frame(rows, first=("study", "run", "status"))),
        curves=pd.concat(curves, ignore_index=True) if curves else _no_curves(),
        left_out=pd.DataFrame(left_out, columns=list(_LEFT_OUT)),
        swept=tuple(keys),
    )


def _row(each: _Found, run: Run, settings: Flat) -> dict[str, Any]:
    parts = {name: _part(run.record, name) for name in ("machine", "git", "versions", "timings")}
    parts["timings"] = {name: parts["timings"].get(name) for name in _TIMINGS}
    return {
        "study": each.study,
        "run": each.name,
        "status": run.status,
        **{name: run.config["names"].get(name) for name in NAMES},
        **settings,
        "seed": run.config.get("seed"),
        **{name: value for name, value in run.metrics.items() if _is_finite(value)},
        **{f"{name}.{key}": _cell(v) for name, part in parts.items() for key, v in part.items()},
        "fingerprint": _cell(run.record.get("fingerprint")),
        "folder": str(run.folder),
    }


def _part(record: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a table of run.json; empty where an old or damaged one has none."""
    part = record.get(name)
    return part if isinstance(part, dict) else {}


def _cell(value: Any) -> Any:
    return plain_value(value) if isinstance(value, list | dict) else value


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


def _no_curves() -> pd.DataFrame:
    return pd.DataFrame(columns=["study", "run", "epoch", "step"])


def _curve(each: _Found) -> pd.DataFrame:
    assert each.curves is not None
    table = pd.DataFrame(each.curves)
    table["epoch"] = table["epoch"].astype(int) + 1
    table["step"] = table["step"].astype(int)
    table.insert(0, "study", each.study)
    table.insert(1, "run", each.name)
    return table
