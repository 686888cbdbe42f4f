"""Event files of runs, seen from another folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def event_files(run: Path) -> list[Path]:
    """Return a run's event files; nothing else that has such a name, which could be a pipe."""
    return sorted(path for path in (run / "tb").glob("*tfevents*") if path.is_file())


def link_events(run: Path, folder: Path) -> None:
    """Let `folder` show a run's event files as they grow; copies where links are impossible.

    Called again, it adds new files and removes links to those that are gone.
    """
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
