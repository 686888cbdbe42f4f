"""A run's folder: what lies where in it, who trains in it, what it says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from stelab.engine.errors import InputError
from stelab.engine.studies.lock import is_locked, locked
from stelab.engine.studies.record import CONFIG, PROGRESS, RECORD, Run, read_record, read_run


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, ``outputs/<study>/<run id>``, whether it is there or not.

    Attributes:
        path: Where it is.
    """

    path: Path

    @classmethod
    def of(cls, cfg: DictConfig) -> RunFolder:
        """Return the folder of a run's configuration."""
        return cls(Path(cfg.paths.run))

    @property
    def name(self) -> str:
        """Return the run id."""
        return self.path.name

    @property
    def study(self) -> Path:
        """Return the folder of its study."""
        return self.path.parent

    @property
    def config(self) -> Path:
        """Return config.yaml: the resolved configuration."""
        return self.path / CONFIG

    @property
    def record(self) -> Path:
        """Return run.json: what the run is and how it went."""
        return self.path / RECORD

    @property
    def metrics(self) -> Path:
        """Return metrics.csv: a row an epoch."""
        return self.path / "metrics.csv"

    @property
    def progress(self) -> Path:
        """Return progress.json: how far training has come, while it goes on."""
        return self.path / PROGRESS

    @property
    def unfinished_progress(self) -> Path:
        """Return what becomes progress.json once it is whole."""
        return self.progress.with_suffix(".new")

    @property
    def checkpoints(self) -> Path:
        """Return the folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def events(self) -> Path:
        """Return the folder of TensorBoard's event files."""
        return self.path / "tb"

    @property
    def figures(self) -> Path:
        """Return the folder of figures."""
        return self.path / "figures"

    def own(self) -> tuple[Path, ...]:
        """Return all that a run writes, but for the lock."""
        files = (self.config, self.record, self.metrics, self.progress, self.unfinished_progress)
        return (*files, self.checkpoints, self.events, self.figures)

    def empty(self) -> None:
        """Remove what a run writes, but for the lock; what somebody else has put there stays."""
        names = {path.name for path in self.own()}
        for path in self.path.iterdir():
            half_written = path.name.startswith(".") and path.name[1:].rpartition(".")[0] in names
            if path.name in names or half_written:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def locked(self, *, on_loss: Callable[[], None]) -> AbstractContextManager[bool]:
        """Hold its lock; see `stelab.engine.studies.lock.locked`."""
        return locked(self.path, on_loss=on_loss)

    def is_locked(self) -> bool:
        """Tell whether a living process trains in it; see `stelab.engine.studies.lock`."""
        return is_locked(self.path)

    def read(self) -> Run:
        """Read it; see `stelab.engine.studies.read_run`."""
        return read_run(self.path)

    def status(self) -> str | None:
        """Return how its run stands, as run.json says; None where that cannot be read."""
        try:
            return str(read_record(self.path)["status"])
        except InputError:
            return None
