"""What TensorBoard is to show of studies."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pandas as pd

from stelab.engine.comparison import Comparison, compare
from stelab.engine.comparison.conditions import require_columns, select_where
from stelab.engine.comparison.groups import label
from stelab.engine.errors import InputError
from stelab.engine.path_names import path_name
from stelab.engine.project import project
from stelab.engine.report.board.summaries import Settings
from stelab.engine.studies.headline import Headline
from stelab.engine.studies.places import comparison_folder
from stelab.engine.studies.record import read_run
from stelab.engine.studies.study import Study
from stelab.engine.studies.tables import load
from stelab.engine.terminal import visible


@dataclass(frozen=True)
class ShownRun:
    """A run as TensorBoard shows it."""

    folder: Path
    name: str  # in the table of hyperparameters
    settings: Settings
    status: str
    started: float | None
    ended: float | None
    codes: Any


@dataclass(frozen=True)
class View:
    """What TensorBoard shows of studies."""

    runs: dict[str, ShownRun]  # all that have begun, by their names in TensorBoard
    comparison: Comparison | None  # None while no run is finished
    figures: Path
    headline: Headline  # of the runs; the project's where they have several
    missing: tuple[str, ...] = ()  # sentences on codes that could not be computed


def read_view(
    studies: Sequence[Path],
    *,
    by: Sequence[str] | None,
    where: str | None,
    replicates: Sequence[str],
    embeddings: bool,
    trust: Sequence[str] = (),
) -> View:
    """Read studies, running ones too; with `embeddings`, a run of each group encodes images."""
    study = load(*studies)
    if study.runs.empty:
        raise InputError("no run of the study has begun")
    study = replace(study, runs=select_where(study.runs, where))
    if study.runs.empty:
        raise InputError(f"where: no run meets all of '{where}'")
    if not replicates:
        raise InputError("replicates must name a key that repeats settings, such as seed")
    require_columns(study.runs, keys=[*(by or []), *replicates])
    finished = not study.finished.empty
    comparison = compare(study, by=by, replicates=replicates) if finished else None
    codes, missing = _codes(comparison, trust) if comparison and embeddings else ({}, ())
    figures = comparison_folder(list(studies)) / "figures"
    headline = study.headline(study.runs) or Headline.of({})
    return View(_runs(study, replicates, codes), comparison, figures, headline, missing)


def _codes(comparison: Comparison, trust: Sequence[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Encode with the first replicate of each group, by its folder; say what cannot be encoded."""
    read_codes = resolve_name(project().read_codes)
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
    swept = [*(["study"] if several else []), *study.swept]
    keys = [*(key for key in swept if key not in replicates), *replicates]
    rows = study.runs.to_dict("records")
    settings = [{key: row[key] for key in keys if not pd.isna(row[key])} for row in rows]
    tails = [row["run"].rpartition("-")[2] for row in rows]
    names = folder_names([label(values) for values in settings], tails)
    return {
        name: ShownRun(
            folder=Path(row["folder"]),
            name=f"{row['study']}/{row['run']}" if several else row["run"],
            settings=values,
            status=row["status"],
            started=_seconds(row["timings.started"]),
            ended=_seconds(row["timings.ended"]),
            codes=codes.get(row["folder"]),
        )
        for name, values, row in zip(names, settings, rows, strict=True)
    }


def folder_names(labels: Sequence[str], tails: Sequence[str]) -> list[str]:
    """Make a folder's name, which TensorBoard shows, of each label; equal ones get their tails."""
    names = [path_name(visible(label)) for label in labels]
    counts = Counter(names)
    return [
        name if counts[name] == 1 else f"{name} ({path_name(tail, most=40)})"
        for name, tail in zip(names, tails, strict=True)
    ]


def _seconds(time: Any) -> float | None:
    return None if pd.isna(time) else pd.Timestamp(time).timestamp()
