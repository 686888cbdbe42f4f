"""run.json: what a run was, how it went, on what it ran."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
import traceback
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from stelab.config.identity import fingerprint
from stelab.config.validate import plain
from stelab.errors import InputError
from stelab.studies.files import write_atomically

_PACKAGES = ("stelab", "torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy")


@dataclass(frozen=True)
class Run:
    """A run's folder, read.

    Attributes:
        folder: ``outputs/<study>/<run id>``.
        status: ``"running"``, ``"finished"`` or ``"failed"``.
        config: The resolved configuration, plain containers.
        metrics: Final value of every metric, by its name in TensorBoard.
        record: All of run.json.
    """

    folder: Path
    status: str
    config: dict[str, Any]
    metrics: dict[str, float]
    record: dict[str, Any]

    @property
    def name(self) -> str:
        """Return the run id."""
        return self.folder.name


def read_run(folder: Path | str) -> Run:
    """Read a run's folder.

    Raises:
        InputError: It is not one: run.json or config.yaml is absent or unreadable.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        status, metrics = record["status"], record["metrics"]
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} is not a run's folder: there is no {Path(error.filename).name} in it"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is not a readable run: {error!r}") from error
    return Run(
        folder=folder,
        status=status,
        config=cast(dict[str, Any], config),
        metrics=metrics,
        record=record,
    )


def read_finished(folder: Path | str) -> Run:
    """Read a finished run's folder.

    Raises:
        InputError: It is not one.
    """
    run = read_run(folder)
    if run.status != "finished":
        raise InputError(f"{run.folder} must be a finished run, but it is {run.status}")
    return run


class Recorder:
    """Writes config.yaml and run.json of a run as it goes on."""

    def __init__(self, folder: Path, cfg: DictConfig):
        self.folder = folder
        self.started = time.time()
        self.record: dict[str, Any] = {
            "status": "running",
            "fingerprint": fingerprint(cfg),
            "metrics": {},
            "git": _git(),
            "versions": {name: version(name) for name in _PACKAGES},
            "machine": _machine(),
            "timings": {"started": _timestamp(self.started)},
            "error": None,
        }
        write_atomically(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
        self._write()

    def finish(self, metrics: dict[str, float]) -> None:
        """Record the final metrics."""
        self.record |= {"status": "finished", "metrics": metrics}
        self._stop()

    def fail(self, error: BaseException) -> None:
        """Record an error with its traceback."""
        text = "".join(traceback.format_exception(error))
        self.record |= {"status": "failed", "error": text}
        self._stop()

    def _stop(self) -> None:
        now = time.time()
        self.record["timings"] |= {
            "ended": _timestamp(now),
            "seconds": round(now - self.started, 3),
        }
        self._write()

    def _write(self) -> None:
        write_atomically(self.folder / "run.json", json.dumps(self.record, indent=2) + "\n")


def _timestamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _git() -> dict[str, Any] | None:
    """Return commit and dirtiness of the checkout that stelab runs from; None for a wheel."""
    source = Path(__file__).resolve().parents[3]
    if not (source / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _machine() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "python": platform.python_version(),
    }
