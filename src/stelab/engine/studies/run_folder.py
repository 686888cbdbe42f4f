"""A run's folder: what lies where in it, who trains in it, what it says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from omegaconf import DictConfig

from stelab.engine.errors import InputError
from stelab.engine.studies.lock import is_locked, locked
from stelab.engine.studies.record import CONFIG, PROGRESS, RECORD, Run, read_record, read_run


class RunFolder:
    """The folder of one run, ``outputs/<study>/<run id>``, whether it is there or not.

    Its name is the run id.
    """

    def __init__(self, path: Path):
        self.path, self.name, self.study = path, path.name, path.parent
        self.config = path / CONFIG  # resolved
        self.record = path / RECORD  # what the run is and how it went
        self.metrics = path / "metrics.csv"  # a row an epoch
        self.progress = path / PROGRESS  # how far training has come, while it goes on
        self.unfinished_progress = path / "progress.new"  # becomes the other once it is whole
        self.checkpoints = path / "checkpoints"
        self.events = path / "tb"  # TensorBoard's
        self.figures = path / "figures"

    @classmethod
    def of(cls, cfg: DictConfig) -> RunFolder:
        """Return the folder of a run's configuration."""
        return cls(Path(cfg.paths.run))

    def empty(self) -> None:
        """Remove what a run writes, but for the lock; what somebody else has put there stays."""
        files = (self.config, self.record, self.metrics, self.progress, self.unfinished_progress)
        written = (*files, self.checkpoints, self.events, self.figures)
        names = {path.name for path in written}
        for path in self.path.iterdir():
            half_written = path.name.startswith(".") and path.name[1:].rpartition(".")[0] in names
            if path.name in names or half_written:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def locked(self, *, on_loss: Callable[[], None]) -> AbstractContextManager[bool]:
        """Hold its lock; see `stelab.engine.studies.lock.locked`."""
        return locked(self.path, on_loss=on_loss)

    def is_locked(self) -> bool:
        """Return whether a living process trains in it."""
        return is_locked(self.path)

    def read(self) -> Run:
        """Read it; see `stelab.engine.studies.read_run`."""
        return read_run(self.path)

    def status(self) -> str | None:
        """Return its run's status, as run.json says; None where that cannot be read."""
        try:
            return str(read_record(self.path)["status"])
        except InputError:
            return None
