"""Studies on their way to others and back: what of their runs makes tables, in one archive."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from stelab.engine.archives import MOST_BYTES, MOST_FILES, RUN_FILES, SWEEPS, located, write_archive
from stelab.engine.errors import InputError
from stelab.engine.files import (
    filled_atomically,
    read_bounded,
    require_own,
    write_atomically,
    written_atomically,
)
from stelab.engine.path_names import is_path_name
from stelab.engine.studies import curves
from stelab.engine.studies.places import may_be_run
from stelab.engine.studies.record import Run, RunFolder, read_run, written_record
from stelab.engine.studies.run_format import problem_with_run
from stelab.engine.studies.shared import places_in, shared_run, shared_sweep
from stelab.engine.studies.status import has_begun, state_of
from stelab.engine.studies.sweep import planned, read_sweep, written_sweep
from stelab.engine.terminal import visible

_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass
class Moved:
    """What became of runs: how many were taken, by their state, and why others were not."""

    states: Counter[str] = field(default_factory=Counter)
    there: int = 0  # runs that were there already, with the same results
    left: list[tuple[str, str]] = field(default_factory=list)  # "study/run", and why
    kept: dict[str, None] = field(default_factory=dict)  # keys that name a folder, and stay


def export(studies: Sequence[Path], target: Path) -> Moved:
    """Write the runs of studies, and their lists of jobs, to one archive, see `write_archive`.

    Of each run config.yaml, run.json and metrics.csv, see `shared_run`. What is no readable run is
    left out. Exporting what was exported gives the same bytes.

    Raises:
        InputError: There is nothing to export, two studies have one name, or it is too much.
    """
    if absent := [study for study in studies if not located(study).is_dir()]:
        raise InputError(f"{absent[0]} is not there (study=NAME, paths.outputs=FOLDER)")
    names = Counter(study.name for study in studies)
    if twice := [name for name in names if names[name] > 1]:
        raise InputError(f"an archive has one study of a name, but two are called {twice[0]}")
    moved = Moved()
    with written_atomically(target) as file:
        write_archive(file, _within_bounds(_contents(studies, moved)))
        if not moved.states:
            raise InputError(f"{', '.join(map(str, studies))}: there is no run to export")
    return moved


def _contents(studies: Sequence[Path], moved: Moved) -> Iterator[tuple[str, bytes]]:
    """Yield the names and the contents of an archive's files, in their order."""
    for study in sorted(studies, key=lambda path: path.name):
        for run in _runs(study, moved):
            try:
                shared = shared_run(run)
                files = _files_of(shared)
            except (InputError, OSError, ValueError) as error:
                moved.left.append((f"{study.name}/{visible(run.name)}", visible(str(error))))
                continue
            moved.states[state_of(run.folder).state] += 1
            moved.kept |= dict.fromkeys(places_in(shared.config))
            for name, content in files.items():
                yield f"{study.name}/{run.name}/{name}", content
        for name, text in _sweeps(study, moved):
            yield f"{study.name}/{SWEEPS}/{name}", text.encode()


def _within_bounds(contents: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Refuse to write more than is read."""
    left = MOST_BYTES
    for number, (name, content) in enumerate(contents, start=1):
        left -= len(content) + 2**11  # with its header
        if number > MOST_FILES or left < 0:
            raise InputError(
                f"an archive holds at most {MOST_FILES} files, {MOST_BYTES} bytes unpacked: "
                "export fewer studies at once"
            )
        yield name, content


def _runs(study: Path, moved: Moved) -> Iterator[Run]:
    """Yield the readable runs of a study by their names; note why others are not."""
    for name in sorted(path.name for path in located(study).iterdir() if may_be_run(path)):
        folder, problem = study / name, ""
        try:
            if not has_begun(folder):
                raise InputError("there is no run.json in it")
            if not is_path_name(name):
                raise InputError("its name cannot be written: rename the folder")
            run = read_run(folder)
            problem = problem_with_run(run)
        except InputError as error:
            problem = str(error)
        if problem:
            moved.left.append((f"{study.name}/{visible(name)}", visible(problem)))
        else:
            yield run


def _files_of(run: Run) -> dict[str, bytes]:
    """Return the contents of the files of a run, as it is shared, by their names."""
    config = yaml.dump(run.config, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    files = {"config.yaml": config.encode(), "run.json": written_record(run.record).encode()}
    try:
        metrics = read_bounded(RunFolder(run.folder).metrics, limit=curves.MAX_BYTES)
    except FileNotFoundError:  # it ended before its first epoch
        return files
    return {**files, "metrics.csv": metrics}


def _sweeps(study: Path, moved: Moved) -> Iterator[tuple[str, str]]:
    """Yield the readable lists of a study's sweeps by the names of their files."""
    _, unreadable = planned(study)
    moved.left += [(f"{study.name}/{name}", why) for name, why in unreadable.items()]
    for name in sorted(path.name for path in located(study / SWEEPS).glob("*.json")):
        if f"{SWEEPS}/{visible(name)}" not in unreadable and is_path_name(name):
            yield name, written_sweep(shared_sweep(read_sweep(study / SWEEPS / name)))


def unpack(studies: Sequence[Path], outputs: Path) -> Moved:
    """Put runs of an archive's studies where they are not: into ``outputs/<study>``.

    A run that is there stays as it is, whatever the archive has of it.
    """
    moved = Moved()
    for study in studies:
        target = outputs / study.name
        require_own(target, target / SWEEPS)
        for run in _runs(study, moved):
            place = target / run.name
            if os.path.lexists(place):
                if why := _other_than(run, place):
                    moved.left.append((f"{study.name}/{run.name}", why))
                else:
                    moved.there += 1
                continue
            with filled_atomically(place) as folder:
                for path in (located(run.folder) / name for name in RUN_FILES):
                    if path.exists():
                        write_atomically(folder / path.name, path.read_bytes())
            moved.states[state_of(place).state] += 1
        for name, content in _sweeps(study, moved):
            if not os.path.lexists(target / SWEEPS / name):
                write_atomically(target / SWEEPS / name, content)
    return moved


def _other_than(run: Run, place: Path) -> str:
    """Return in what the run that is there differs from one of an archive; empty: in nothing."""
    state = state_of(place)
    if state.state != "finished" or run.status != "finished":
        return f"is there, {state.state}, and {run.status} in the archive: it stays as it is"
    there = (state.record or {})["metrics"]
    names = [name for name in {**there, **run.metrics} if not name.startswith("time/")]
    if not (different := [name for name in names if there.get(name) != run.metrics.get(name)]):
        return ""
    name, more = different[0], len(different) - 1
    values = f"{name} is {there.get(name)} there, {run.metrics.get(name)} in the archive"
    others = f" ({more} more metrics differ)" if more else ""
    return f"is there, finished with other results: {values}{others}"
