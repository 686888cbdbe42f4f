"""What a sweep was to run, kept in its study's folder: so that what is missing can be named."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from stelab.engine.errors import InputError
from stelab.engine.files import write_atomically
from stelab.engine.path_names import is_path_name
from stelab.engine.studies.documents import read_json
from stelab.engine.studies.run_format import are_texts, is_name
from stelab.engine.terminal import brief, visible

FOLDER = "sweeps"

_MOST = 16 * 2**20  # bytes: of some 80,000 jobs


def record_sweep(study: Path, command: str, jobs: Mapping[str, Sequence[str]]) -> None:
    """Write ``sweeps/<hash>.json``: the command, and the overrides of every job by its run id.

    The same sweep again writes the same file.

    Raises:
        InputError: What has the folder's name is none.
    """
    content = json.dumps({"command": command, "jobs": dict(jobs)}, indent=2) + "\n"
    name = hashlib.sha256(content.encode()).hexdigest()[:8]
    try:
        write_atomically(study / FOLDER / f"{name}.json", content)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"{study / FOLDER} must be a folder, but a file is there: move it"
        ) from error


def sweeps(study: Path) -> list[Path]:
    """Return the files of a study's sweeps."""
    return sorted((study / FOLDER).glob("*.json"))


def told_apart(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Name each job by what was swept: those of its overrides that not all jobs have.

    E.g. ``"model.bits=256 optimizer.lr=0.002"``; empty where there is a single job.
    """
    counts = Counter(override for job in jobs for override in set(job))
    return [" ".join(o for o in job if counts[o] < len(jobs)) for job in jobs]


def planned(study: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the jobs of all sweeps of a study, in their order.

    Returns:
        The overrides of each job by its run id; and why files of sweeps are unreadable, by their
        names below the study.
    """
    jobs: dict[str, list[str]] = {}
    unreadable = {}
    for path in sweeps(study):
        try:
            jobs |= jobs_of(path)
        except InputError as error:
            unreadable[f"{FOLDER}/{visible(path.name)}"] = str(error)
    return jobs, unreadable


def settings_of(study: Path) -> dict[str, str]:
    """Map the run ids of all sweeps of a study to what was swept, as `told_apart` writes it."""
    jobs, _ = planned(study)
    return dict(zip(jobs, told_apart([*jobs.values()]), strict=True))


def jobs_of(path: Path) -> dict[str, list[str]]:
    """Return the overrides of each job of one sweep by its run id, in their order.

    Raises:
        InputError: Its file is unreadable.
    """
    try:
        content = read_json(path, limit=_MOST)
        jobs = content.get("jobs") if isinstance(content, dict) else None
        if not isinstance(jobs, dict) or not all(map(are_texts, jobs.values())):
            raise ValueError("jobs must be a table of lists of overrides")
        if strange := [name for name in jobs if not (is_name(name) and is_path_name(name))]:
            raise ValueError(f"{brief(strange[0])!r} cannot be the name of a run")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{visible(str(path))} must list the jobs of a sweep, but is unreadable ({error}): "
            "delete it, and the same sweep again writes it"
        ) from error
    return jobs
