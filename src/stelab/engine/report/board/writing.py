"""A view in a folder: a folder a run, in it links to its event files and files of our own."""

import errno
import io
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from pkgutil import resolve_name

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from stelab.engine.errors import InputError
from stelab.engine.project import project
from stelab.engine.report.board import summaries
from stelab.engine.report.board.view import ShownRun, View, folder_names

# An event file of our own before those of a run, which have the time in their names, and one after:
# one of TensorBoard's two loaders never goes back to a file whose name sorts before another's.
FIRST, LAST = "events.out.tfevents.0000000000.stelab", "events.out.tfevents.9999999999.stelab"


def write_anew(view: View, folder: Path) -> None:
    """Write a view beside the old one and put it in its place; other processes may do the same."""
    new, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{age}") for age in ("new", "old"))
    try:
        write_view(view, new)
        while new.exists():
            try:
                new.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                with suppress(FileNotFoundError):
                    folder.rename(old)
                shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(f"the view cannot be written to {folder}: {error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def write_view(view: View, folder: Path) -> None:
    """Write a view, or bring one up to date: what is there stays, what is stale goes."""
    for name, run in view.runs.items():
        _write_run(run, folder / name)
    means = summaries.mean_runs(view.comparison) if view.comparison else {}
    mean_names = folder_names([*means], [*map(str, range(len(means)))])
    for name, steps in zip(mean_names, means.values(), strict=True):
        if not (folder / name).exists():
            write_events(folder / name / FIRST, steps)
    # What is said of all runs changes with them, and TensorBoard reads no name twice.
    finished = sum(run.status == "finished" for run in view.runs.values())
    study = f"study, {finished} of {len(view.runs)} runs finished"
    if not (folder / study).exists():
        _write_study(view, folder / study)
    for path in folder.iterdir():
        if path.name not in (*view.runs, *mean_names, study):
            shutil.rmtree(path, ignore_errors=True)  # another process may do the same


def _write_run(run: ShownRun, folder: Path) -> None:
    if not (folder / FIRST).exists():
        begun = hparams_pb(run.settings, trial_id=run.name, start_time_secs=run.started)
        write_events(folder / FIRST, [(0, begun)])
    link_events(run.folder, folder)
    if run.status in ("finished", "failed") and not (folder / LAST).exists():
        ended = summaries.ended(run.status, run.ended)
        shown = [ended, *summaries.pictures(run.folder / "figures")]
        write_events(folder / LAST, [(0, summary) for summary in shown])
    if run.codes and not (folder / "projector_config.pbtxt").exists():
        resolve_name(project().write_codes)(folder, run.codes)


def _write_study(view: View, folder: Path) -> None:
    measured, means, confidence = [], [], 0.0
    if view.comparison:
        measured = [name for name in view.comparison.runs if "/" in name]
        means, confidence = summaries.curve_names(view.comparison), view.comparison.confidence
    settings = [run.settings for run in view.runs.values()]
    metrics = dict.fromkeys([view.headline.test, *view.headline.live, *measured])
    contents = (
        summaries.experiment(settings, list(metrics)),
        summaries.layout(means, view.headline, confidence=confidence),
        *summaries.pictures(view.figures),
    )
    write_events(folder / FIRST, [(0, summary) for summary in contents])


def write_events(path: Path, steps: Iterable[summaries.Step]) -> None:
    """Write a whole event file; its name must hold ``tfevents``."""
    file = io.BytesIO()
    records = RecordWriter(file)
    records.write(Event(file_version="brain.Event:2").SerializeToString())
    for step, summary in steps:
        event = Event(wall_time=time.time(), step=step, summary=summary)
        records.write(event.SerializeToString())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.getvalue())


def event_files(run: Path) -> list[Path]:
    """Return a run's event files; nothing else that has such a name, which could be a pipe."""
    return sorted(path for path in (run / "tb").glob("*tfevents*") if path.is_file())


def link_events(run: Path, folder: Path) -> None:
    """Link a run's event files into `folder`, or copy them; remove links to those that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_symlink() and not path.exists():
            path.unlink(missing_ok=True)
    for source in event_files(run):
        link = folder / source.name
        if link.exists():
            continue
        try:
            link.symlink_to(os.path.relpath(source.resolve(), folder.resolve()))
        except FileExistsError:
            continue  # another process made it meanwhile
        except OSError:
            shutil.copyfile(source, link)
