"""What TensorBoard is to show of studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from stelab.engine.comparison import Comparison, compare
from stelab.engine.comparison.conditions import parse_conditions, require_keys, select
from stelab.engine.comparison.folders import comparison_folder
from stelab.engine.comparison.groups import label
from stelab.engine.errors import InputError
from stelab.engine.project import load as load_named
from stelab.engine.project import project
from stelab.engine.report.board.hparams import Settings
from stelab.engine.report.board.names import folder_names
from stelab.engine.studies.record import read_run
from stelab.engine.studies.tables import Study, load


@dataclass(frozen=True)
class ShownRun:
    """A run: its folder, its place in the table of hyperparameters, how it stands."""

    folder: Path
    name: str
    settings: Settings
    status: str
    started: float | None
    ended: float | None
    codes: Any


@dataclass(frozen=True)
class View:
    """What is shown.

    Attributes:
        runs: All that have begun, by the names that TensorBoard shows.
        comparison: Of those that are finished; None while there are none.
        figures: The folder of the study's.
        missing: Sentences on codes that could not be had.
    """

    runs: dict[str, ShownRun]
    comparison: Comparison | None
    figures: Path
    missing: tuple[str, ...] = ()


def read_view(
    studies: Sequence[Path],
    *,
    by: Sequence[str] | None,
    where: str | None,
    replicates: Sequence[str],
    embeddings: bool,
    trust: Sequence[str] = (),
) -> View:
    """Read studies, running ones too.

    Args:
        studies: Their folders.
        by: Settings whose curves are averaged; None: all that were swept, but the replicates.
        where: Conditions that runs must meet.
        replicates: Keys that repeat a setting.
        embeddings: Whether to encode test images, with one run a group.
        trust: Packages whose components are built for it, besides those of stelab and torch.

    Raises:
        InputError: There are no such runs, keys or values, or no codes of any group.
    """
    study = _selected(load(*studies), where)
    if not replicates:
        raise InputError("replicates must name a key that repeats settings, such as seed")
    require_keys(study.runs, [*(by or []), *replicates])
    comparison = None
    if not study.finished.empty:
        comparison = compare(study, by=by, replicates=replicates)
    codes, missing = _codes(comparison, trust) if comparison and embeddings else ({}, ())
    figures = comparison_folder(list(studies)) / "figures"
    return View(_runs(study, replicates, codes), comparison, figures, missing)


def _selected(study: Study, where: str | None) -> Study:
    if study.runs.empty:
        raise InputError("no run of the study has begun")
    kept = select(study.runs, parse_conditions(where, study.runs, what="where"))
    if kept.empty:
        raise InputError(f"where: no run meets all of '{where}'")
    return replace(study, runs=kept)


def _codes(comparison: Comparison, trust: Sequence[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Encode with the first replicate of each group, by the run's folder; say what cannot be."""
    read_codes = load_named(project().read_codes)
    codes: dict[str, Any] = {}
    missing: list[str] = []
    for group in comparison.groups:
        folder = group.first(comparison.replicates)["folder"]
        try:
            codes[folder] = read_codes(read_run(folder), trust=trust)
        except InputError as error:
            missing.append(f"No codes of {group.label}: {str(error).rstrip('.')}.")
    if not codes:
        raise InputError(missing[0])
    return codes, tuple(missing)


def _runs(study: Study, replicates: Sequence[str], codes: dict[str, Any]) -> dict[str, ShownRun]:
    several = study.runs["study"].nunique() > 1
    keys = [*(["study"] if several else []), *study.swept, *replicates]
    keys = [key for key in keys if key not in replicates] + list(replicates)
    rows = study.runs.to_dict("records")
    settings = [{key: row[key] for key in keys if not pd.isna(row[key])} for row in rows]
    names = folder_names(
        [label(own) for own in settings], [row["run"].rpartition("-")[2] for row in rows]
    )
    return {
        name: ShownRun(
            folder=Path(row["folder"]),
            name=f"{row['study']}/{row['run']}" if several else row["run"],
            settings=own,
            status=row["status"],
            started=_seconds(row["timings.started"]),
            ended=_seconds(row["timings.ended"]),
            codes=codes.get(row["folder"]),
        )
        for name, own, row in zip(names, settings, rows, strict=True)
    }


def _seconds(time: Any) -> float | None:
    return None if pd.isna(time) else pd.Timestamp(time).timestamp()
