"""What a sweep was to run, kept in its study's folder: so that what is missing can be named."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stelab.errors import InputError
from stelab.path_names import is_path_name
from stelab.studies.files import write_atomically

FOLDER = "sweeps"


def record_sweep(study: Path, command: str, jobs: Mapping[str, Sequence[str]]) -> None:
    """Write ``sweeps/<hash>.json``: the command, and the overrides of every job by its run id.

    The same sweep again writes the same file.
    """
    content = json.dumps({"command": command, "jobs": dict(jobs)}, indent=2) + "\n"
    name = hashlib.sha256(content.encode()).hexdigest()[:8]
    write_atomically(study / FOLDER / f"{name}.json", content)


def planned(study: Path) -> list[str]:
    """Return the run ids of all sweeps of a study, in their order.

    Raises:
        InputError: The file of a sweep is unreadable.
    """
    return list(dict.fromkeys(name for path in sweeps(study) for name in jobs_of(path)))


def sweeps(study: Path) -> list[Path]:
    """Return the files of a study's sweeps."""
    return sorted((study / FOLDER).glob("*.json"))


def told_apart(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Name each job by what was swept: those of its overrides that not all jobs have.

    E.g. ``"model.bits=256 optimizer.lr=0.002"``; empty where there is a single job.
    """
    counts = Counter(override for job in jobs for override in set(job))
    return [" ".join(o for o in job if counts[o] < len(jobs)) for job in jobs]


def settings_of(study: Path) -> dict[str, str]:
    """Map the run ids of all sweeps of a study to what was swept, as `told_apart` writes it.

    Raises:
        InputError: The file of a sweep is unreadable.
    """
    jobs: dict[str, list[str]] = {}
    for path in sweeps(study):
        jobs |= jobs_of(path)
    return dict(zip(jobs, told_apart([*jobs.values()]), strict=True))


def jobs_of(path: Path) -> dict[str, list[str]]:
    """Return the overrides of each job of one sweep by its run id, in their order.

    Raises:
        InputError: Its file is unreadable.
    """
    try:
        jobs = json.loads(path.read_text(encoding="utf-8"))["jobs"]
        if not isinstance(jobs, dict) or not all(map(_is_job, jobs.values())):
            raise TypeError("jobs must be a table of lists of overrides")
        if not all(map(is_path_name, jobs)):
            raise TypeError("jobs must be called by names of folders")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} must list the jobs of a sweep, but is unreadable ({error!r}): delete it, "
            "and the same sweep again writes it"
        ) from error
    return jobs


def _is_job(overrides: Any) -> bool:
    return isinstance(overrides, list) and all(isinstance(each, str) for each in overrides)
