"""Tidy tables of runs, a row a run: what `stelab compare` wrote, or what others have.

A table of stelab says which of its columns are settings. Of others' those are that `columns` names,
and those that trackers mark as configuration. Either may be anybody's: cells are numbers or texts
that are shown, never obeyed, within bounds.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from stelab.engine.config.validate import suggestion
from stelab.engine.errors import InputError
from stelab.engine.project import project
from stelab.engine.studies.cells import Cells, read_cells
from stelab.engine.studies.places import is_table
from stelab.engine.studies.run_format import is_finite
from stelab.engine.studies.study import LEFT_OUT, Study, one_type_a_column
from stelab.engine.terminal import brief, visible

# What wandb and mlflow call columns, in tables that they export.
_NAMES = {"Name": "run", "State": "status", "Status": "status", "Runtime": "timings.seconds"}
_SETTINGS, _RESULTS = ("config/", "config.", "params."), ("summary/", "summary.", "metrics.")
# What every table of runs has, and a value where it is not known.
_COMMON = {
    **{"epochs": math.nan, "edited": False, "fingerprint": None},
    **{"timings.started": None, "timings.ended": None, "timings.seconds": math.nan},
}
_NUMBERS = ("epochs", "timings.seconds", "trainer.max_epochs")
_FINISHED = ("finished", "completed", "success", "succeeded")


def read_tables(files: Mapping[str, Path], columns: Mapping[str, str]) -> list[Study]:
    """Read tables as the runs of studies; ``runs`` of stelab's with the tables beside it.

    Args:
        files: .csv or .parquet, by the names of studies; where a table of stelab has several, it
            is the beginning of theirs.
        columns: New names of columns, such as ``{"test_loss": "test/mse"}``.

    Raises:
        InputError: One cannot be read, or none has a column of `columns`.
    """
    read = {study: read_cells(path) for study, path in files.items()}
    if empty := [files[study] for study, cells in read.items() if cells.table.empty]:
        raise InputError(f"{visible(str(empty[0]))} holds no runs: it has no row below its header")
    known = dict.fromkeys(str(name) for cells in read.values() for name in cells.table)
    for name in columns:
        if name not in known:
            hint = suggestion(name, known) or f" (there are: {', '.join(known)})"
            raise InputError(f"columns: no table has a column {brief(name)}{hint}")
    studies = []
    for study, cells in read.items():
        table = cells.table.rename(columns=columns)
        is_ours = {"study", "run", "status", "epochs", "swept"} <= {*table}
        make = _ours if is_ours else _theirs
        made = make(files[study], study, replace(cells, table=table), columns)
        studies.append(replace(made, runs=_sound(made.runs)))
    return studies


def _sound(runs: pd.DataFrame) -> pd.DataFrame:
    """Make finite numbers of what others rely on as such, and truth values likewise."""
    names = [name for name in runs if "/" in name or name in _NUMBERS]
    numbers = {name: pd.to_numeric(runs[name], errors="coerce") for name in names}
    finite = {name: values.where(values.map(is_finite)) for name, values in numbers.items()}
    return runs.assign(**finite, edited=[value is True for value in runs["edited"]])


def joined(studies: Sequence[Study]) -> Study:
    """Return the tables of several studies as those of one."""
    first, *others = studies
    if not others:
        return first
    swept = dict.fromkeys(key for study in studies for key in study.swept)
    return replace(
        first,
        runs=_below_each_other([study.runs for study in studies]),
        curves=_below_each_other([study.curves for study in studies]),
        left_out=_below_each_other([study.left_out for study in studies]),
        swept=tuple(swept),
    )


def _below_each_other(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    columns = dict.fromkeys(name for table in tables for name in table)
    known = [table.dropna(axis="columns", how="all") for table in tables if len(table)]
    if not known:
        return tables[0]
    table = pd.concat(known, ignore_index=True).reindex(columns=list(columns))
    return one_type_a_column(table)


def _ours(path: Path, study: str, cells: Cells, columns: Mapping[str, str]) -> Study:
    """Return what `Study.write` wrote; alone, it has the epochs of runs that can be compared."""
    runs = cells.table
    swept = [key for key in str(next(iter(runs["swept"]), "")).split(",") if key in runs]
    several = runs["study"].nunique() > 1

    def renamed(table: pd.DataFrame) -> pd.DataFrame:
        names = [f"{study}/{name}" if several else study for name in table["study"]]
        return table.assign(study=names)

    folders = [f"{path}/{name}" for name in runs["run"]]
    absent = {name: value for name, value in _COMMON.items() if name not in runs}
    runs = renamed(runs).assign(folder=folders, **absent)
    lost = runs[runs["epochs"].isna()]
    states = [state if state != "finished" else "broken" for state in lost["status"]]
    lost = lost.assign(state=states, reason=f"left out where {path.name} was written")
    beside = {
        name: renamed(read_cells(file).table)
        for name in ("curves", "left_out")
        if path.stem == "runs" and is_table(file := path.with_name(f"{name}{path.suffix}"))
    }
    left_out = beside.get("left_out", lost).reindex(columns=list(LEFT_OUT)).fillna("").astype(str)
    return Study(runs, beside.get("curves", _no_curves()), left_out, tuple(swept))


def _theirs(path: Path, study: str, cells: Cells, columns: Mapping[str, str]) -> Study:
    """Return anybody's runs; those that ended badly, or have a number that is none, left out."""
    table = cells.table.rename(columns=_NAMES)
    taken = ("seed", "run", "status", "timings.seconds")
    settings = [
        name for name in columns.values() if name in table and "/" not in name and name not in taken
    ]
    settings += [_bare(name) for name in table if name.startswith(_SETTINGS)]
    table = table.rename(columns=_bare)
    if twice := [name for name in table if list(table).count(name) > 1]:
        raise InputError(f"{path} has several columns {brief(twice[0])}: rename with columns=")
    rows = range(len(table))
    names = [str(v) for v in table["run"]] if "run" in table else [f"row{i + 1}" for i in rows]
    counts = Counter(names)
    names = [name if counts[name] == 1 else f"{name} (row {i + 1})" for i, name in enumerate(names)]
    states = [str(v).lower() for v in table["status"]] if "status" in table else []
    states = [
        "finished" if state in _FINISHED else state for state in states or ["finished"] * len(table)
    ]
    absent = {**dict.fromkeys(project().named_groups), **_COMMON}
    absent = {name: value for name, value in absent.items() if name not in table}
    folders = [f"{path}/{name}" for name in names]
    runs = table.assign(study=study, run=names, status=states, folder=folders, **absent)
    lost = [
        (study, names[i], "broken", cells.problems[i])
        if states[i] == "finished"
        else (study, names[i], states[i], "")
        for i in rows
        if states[i] != "finished" or i in cells.problems
    ]
    swept = [key for key in dict.fromkeys(settings) if runs[key].map(str).nunique() > 1]
    return Study(runs, _no_curves(), pd.DataFrame(lost, columns=list(LEFT_OUT)), tuple(swept))


def _bare(name: str) -> str:
    """Return the name of a column without what a tracker puts before it."""
    for prefix in (*_SETTINGS, *_RESULTS):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _no_curves() -> pd.DataFrame:
    empty = {"study": str, "run": str, "epoch": int, "step": int}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in empty.items()})
