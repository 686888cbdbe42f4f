"""``sweeps/`` in a study's folder: what each sweep was to run, and whether one is under way.

A sweep's list of jobs lets what is missing be named. While its driver lives, it holds the lock of a
folder beside the lists, so that others, on other hosts too, see that a sweep goes on.
"""

import hashlib
import json
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from stelab.engine.archives import SWEEPS, located
from stelab.engine.errors import InputError
from stelab.engine.files import write_atomically
from stelab.engine.path_names import is_path_name
from stelab.engine.studies.documents import read_json
from stelab.engine.studies.lock import LEASE, is_locked, locked_while_alive
from stelab.engine.studies.run_format import are_texts, is_name
from stelab.engine.terminal import brief, visible

FOLDER, _DRIVERS = SWEEPS, "driver-*"
_MAX_BYTES = 16 * 2**20  # of some 80,000 jobs


def record_sweep(study: Path, command: str, jobs: Mapping[str, Sequence[str]]) -> None:
    """Write ``sweeps/<hash>.json``: the command, and the overrides of every job by its run id."""
    content = written_sweep({"command": command, "jobs": dict(jobs)})
    name = hashlib.sha256(content.encode()).hexdigest()[:8]
    try:
        write_atomically(study / FOLDER / f"{name}.json", content)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"{study / FOLDER} must be a folder, but a file is there: move it"
        ) from error


def written_sweep(content: Mapping[str, Any]) -> str:
    """Return the text of a list of jobs."""
    return json.dumps(content, indent=2) + "\n"


def differing_overrides(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Name each job by those of its overrides that not all jobs have; a single one by nothing."""
    counts = Counter(override for job in jobs for override in set(job))
    return [" ".join(o for o in job if counts[o] < len(jobs)) for job in jobs]


def planned(study: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the overrides of all sweeps' jobs by run id, and why files are unreadable by name."""
    jobs: dict[str, list[str]] = {}
    unreadable = {}
    for name in sorted(path.name for path in located(study / FOLDER).glob("*.json")):
        try:
            jobs |= jobs_of(study / FOLDER / name)
        except InputError as error:
            unreadable[f"{FOLDER}/{visible(name)}"] = str(error)
    return jobs, unreadable


def settings_of(study: Path) -> dict[str, str]:
    """Map the run ids of all sweeps of a study to what was swept, see `differing_overrides`."""
    jobs, _ = planned(study)
    return dict(zip(jobs, differing_overrides([*jobs.values()]), strict=True))


def jobs_of(path: Path) -> dict[str, list[str]]:
    """Return the overrides of each job of one sweep by its run id, in their order."""
    jobs: dict[str, list[str]] = read_sweep(path)["jobs"]
    return jobs


def read_sweep(path: Path) -> dict[str, Any]:
    """Read the list of one sweep's jobs; InputError where it is not one."""
    try:
        content = read_json(path, limit=_MAX_BYTES)
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
    return {"command": content.get("command"), "jobs": jobs}


@contextmanager
def driving(studies: Collection[Path]) -> Iterator[None]:
    """Show that a sweep of these studies is under way; remove what killed drivers left behind."""
    with ExitStack() as stack:
        for study in studies:
            for driver in sorted((study / FOLDER).glob(_DRIVERS)):
                with suppress(FileNotFoundError):  # another driver clears, too
                    if not _is_alive(driver) and time.time() - driver.stat().st_mtime > 2 * LEASE:
                        shutil.rmtree(driver, ignore_errors=True)
            name = f"driver-{uuid.uuid4().hex[:8]}"
            stack.enter_context(locked_while_alive(study / FOLDER / name))
        yield


def is_driven(study: Path) -> bool:
    """Return whether the driver of any sweep of a study lives."""
    return any(map(_is_alive, located(study / FOLDER).glob(_DRIVERS)))


def _is_alive(driver: Path) -> bool:
    try:
        return is_locked(driver)
    except (InputError, OSError):  # somebody's, whatever it is
        return False
