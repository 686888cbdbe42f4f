"""Every run, and every folder that is not compared."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pandas as pd

from stelab.engine.comparison import Comparison
from stelab.engine.comparison.conditions import parse_conditions, select
from stelab.engine.report.numbers import MISSING
from stelab.engine.report.table import Cell, Column, Row, Table, measured, setting, text

# Of states that come without a reason.
_MEANINGS = {
    "interrupted": "it was stopped; the same command continues it",
    "missing": "a sweep was to run it; it has not begun",
}

COMPARED = "compared"
BY_WHERE = "finished, but left out by where"
TWICE = "finished, but its configuration was run again"

Links = Mapping[tuple[str, str], str]


def run_table(comparison: Comparison, links: Links) -> Table:
    """Return all runs that can be read, with their settings, metrics, time, commit and command."""
    runs = comparison.study.runs.sort_values(["study", "run"], kind="stable")
    keys = dict.fromkeys([*comparison.study.swept, *comparison.replicates])
    columns = [
        Column("run", partial(_run, links), "head"),
        *([text("study")] if runs["study"].nunique() > 1 else []),
        Column("state", partial(_state, _states(comparison))),
        *(setting(key, "text") for key in keys if key != "study"),
        *(measured(name, name) for name in comparison.metrics),
    ]
    if "timings.seconds" in runs:
        columns.append(measured("seconds", "timings.seconds", _seconds))
    if "git.commit" in runs:
        columns.append(Column("commit", _commit))
    if "command" in runs:
        columns.append(Column("command", lambda row: _known(row["command"]), "code"))
    only = f"; compared are those of {comparison.where}" if comparison.where else ""
    caption = f"All {len(runs)} runs that can be read{only}"
    return Table("runs", caption, columns, runs.to_dict("records"))


def left_out_table(comparison: Comparison, links: Links) -> Table:
    """Return what is not compared, with its state and the reason."""
    left_out = comparison.study.left_out.sort_values(
        ["state", "study", "run"], key=lambda column: column.where(column != "missing", "~")
    )
    columns = [
        Column("run", partial(_run, links), "head"),
        *([text("study")] if left_out["study"].nunique() > 1 else []),
        text("state"),
        Column("reason", _reason, "prose"),
    ]
    caption = f"{len(left_out)} runs and folders that are not compared"
    return Table("left-out", caption, columns, left_out.to_dict("records"))


def finished_states(comparison: Comparison) -> dict[tuple[str, str], str]:
    """Map the study and name of finished runs to whether they are compared, or why not."""
    finished = comparison.study.finished
    conditions = parse_conditions(comparison.where, comparison.study.runs, what="where")
    states = dict.fromkeys(_keys(finished), BY_WHERE)
    states |= dict.fromkeys(_keys(select(finished, conditions)), TWICE)
    return states | dict.fromkeys(_keys(comparison.runs), COMPARED)


def _states(comparison: Comparison) -> dict[tuple[str, str], str]:
    """Map runs to their states."""
    left_out = comparison.study.left_out
    lost = dict(zip(_keys(left_out), left_out["state"], strict=True))
    return finished_states(comparison) | lost


def _keys(runs: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(runs["study"], runs["run"], strict=True))


def _run(links: Links, row: Row) -> Cell:
    return Cell(row["run"], href=links.get((row["study"], row["run"]), ""))


def _reason(row: Row) -> str:
    return row["reason"] or _MEANINGS.get(row["state"], MISSING)


def _state(states: Mapping[tuple[str, str], str], row: Row) -> str:
    return states[row["study"], row["run"]]


def _seconds(seconds: float) -> str:
    return "" if pd.isna(seconds) else f"{seconds:.1f}"


def _commit(row: Row) -> Cell:
    dirty = row.get("git.dirty")
    changed = not pd.isna(dirty) and bool(dirty)
    marks = {"dirty": "with uncommitted changes"} if changed else {}
    return Cell(_known(row["git.commit"])[:8], marks=marks)


def _known(value: object) -> str:
    return value if isinstance(value, str) else ""
