"""run.json: what a run was, how it went, on what it ran."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from stelab.engine.config.composition import Composition, recorded
from stelab.engine.config.identity import fingerprint
from stelab.engine.config.validate import plain
from stelab.engine.errors import InputError
from stelab.engine.files import write_atomically
from stelab.engine.project import now_called, project
from stelab.engine.studies.documents import read_json, read_yaml
from stelab.engine.studies.lock import is_locked
from stelab.engine.studies.run_format import (
    FORMAT,
    TIME,
    is_as_recorded,
    is_finite,
    part_of,
    problem_with_config,
    problem_with_record,
)
from stelab.engine.terminal import brief, visible

RECORD, CONFIG = "run.json", "config.yaml"
PROGRESS = "progress.json"  # how far a run has come, while it is running

# The most bytes that are read: about a thousand times what stelab writes.
_MAX_RECORD, _MAX_CONFIG = 4 * 2**20, 2**20


class Pruned(Exception):
    """A sweeper stopped a run because it was not worth finishing."""


@dataclass(frozen=True)
class Run:
    """A run's folder, read.

    Attributes:
        folder: ``outputs/<study>/<run id>``.
        status: ``"running"`` (or killed while it was), ``"finished"``, ``"failed"``,
            ``"interrupted"`` by a signal or ``"pruned"``; see `stelab.engine.studies.status`.
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

    @property
    def reason(self) -> str:
        """Return the last line of its error; empty where it has none."""
        return reason(self.record)

    @property
    def composition(self) -> Composition | None:
        """Return what it was composed with; None where no record says what made config.yaml."""
        entries, identity = part_of(self.record, "composition"), self.record.get("fingerprint")
        if not entries or not isinstance(identity, str) or not is_as_recorded(self):
            return None
        return Composition(
            overrides=tuple(entries.get("overrides") or ()),
            choices=entries.get("choices") or {},
            swept=tuple(entries.get("swept") or ()),
            config_dir=entries.get("config_dir"),
            fingerprint=identity,
        )


def read_record(folder: Path | str) -> dict[str, Any]:
    """Read run.json alone; InputError where it is absent or unreadable."""
    with _explained(Path(folder)):
        record = read_json(Path(folder) / RECORD, limit=_MAX_RECORD)
        if problem := problem_with_record(record):
            raise ValueError(problem)
    return cast(dict[str, Any], record)


def read_run(folder: Path | str, *, record: dict[str, Any] | None = None) -> Run:
    """Read a run's folder; InputError where run.json or config.yaml is absent or unreadable.

    Its `record` is its run.json, where that was read a moment ago.
    """
    folder = Path(folder)
    record = record or read_record(folder)
    with _explained(folder):
        # Written resolved: plain YAML, which needs no OmegaConf.
        config = read_yaml(folder / CONFIG, limit=_MAX_CONFIG)
        if problem := problem_with_config(config):
            raise ValueError(problem)
    return Run(folder, record["status"], _with_present_names(config), record["metrics"], record)


def _with_present_names(node: Any) -> Any:
    """Name components that have moved by where they are now."""
    if isinstance(node, dict):
        renamed = {key: _with_present_names(value) for key, value in node.items()}
        if isinstance(target := node.get("_target_"), str):
            renamed["_target_"] = now_called(target)
        return renamed
    return [_with_present_names(value) for value in node] if isinstance(node, list) else node


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    where = visible(str(folder))
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(
            f"{where} is not a run's folder: there is no {Path(error.filename).name} in it"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{where} is not a readable run: {error}") from error


def finished_run(cfg: DictConfig) -> Run | None:
    """Return the run of a configuration where it is finished and ``cfg.rerun`` is not set.

    One that lacks the metrics that are asked of it is not finished: it goes on.
    """
    if cfg.rerun:
        return None
    try:
        run = read_finished(cfg.paths.run)
    except InputError:
        return None
    asked = (cfg.monitor, project().metric)
    return run if all(is_finite(run.metrics.get(name)) for name in asked) else None


def reason(record: dict[str, Any]) -> str:
    """Return the last line of the error in a run.json; empty where there is none."""
    lines = str(record.get("error") or "").strip().splitlines()
    return brief(lines[-1]) if lines else ""


def read_finished(folder: Path | str) -> Run:
    """Read a run's folder, see `read_run`; InputError where it is not finished."""
    run = read_run(folder)
    if run.status != "finished":
        raise InputError(f"{run.folder} must be a finished run, but it is {run.status}")
    return run


class Recorder:
    """Writes config.yaml and run.json of a run as it goes on.

    Each attempt to train it, from a checkpoint or from scratch, has an entry in
    ``timings.attempts``; ``timings.seconds`` is their sum, as far as their ends are known.

    Args:
        folder: The run's folder.
        cfg: Its configuration.
        from_step: Optimizer steps that the checkpoint continued from has taken; 0 without one.
    """

    def __init__(self, folder: Path, cfg: DictConfig, *, from_step: int):
        self.folder = folder
        self.started = time.time()
        earlier: list[dict[str, Any]] = []
        if from_step:
            with suppress(InputError):
                earlier = part_of(read_record(folder), "timings").get("attempts") or []
        self.attempt: dict[str, Any] = {
            "started": _timestamp(self.started),
            "from_step": from_step,
            "host": platform.node(),
            "pid": os.getpid(),
            "commit": (git_state() or {}).get("commit"),  # it may have changed since the last
        }
        self.record: dict[str, Any] = {
            "format": FORMAT,
            "status": "running",
            "composition": recorded(cfg),
            "fingerprint": fingerprint(cfg),
            "tags": [*(cfg.get("tags") or [])],
            "metrics": {},
            "git": git_state(),
            "versions": {name: version(name) for name in project().versions},
            "machine": _machine(threads=cfg.threads),
            "timings": {
                "started": (earlier or [self.attempt])[0]["started"],
                "attempts": [*earlier, self.attempt],
            },
            "error": None,
        }
        write_atomically(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
        _write_record(folder, self.record)

    def finish(
        self,
        metrics: dict[str, float],
        *,
        epochs: int,
        arithmetic: dict[str, Any],
        effect: str | None,
    ) -> None:
        """Record the final metrics, the epochs trained and, in ``machine``, what computed it.

        The metric `effect` is 0 while what sets the run apart from others does nothing.
        """
        self.record["machine"] |= arithmetic
        self._end("finished", metrics=metrics, epochs=epochs, effect=effect)

    def stop(self, error: BaseException, *, status: str) -> None:
        """Record why it ended before its end, with the traceback of a failure."""
        text = "".join(traceback.format_exception(error)) if status == "failed" else str(error)
        with suppress(OSError):  # a full disk, which is the error that is told anyway
            self._end(status, error=text)

    def _end(self, status: str, **changes: Any) -> None:
        now = time.time()
        self.attempt |= {"ended": _timestamp(now), "seconds": round(now - self.started, 3)}
        timings = self.record["timings"]
        timings["ended"] = self.attempt["ended"]
        timings["seconds"] = round(sum(a.get("seconds", 0) for a in timings["attempts"]), 3)
        self.record |= {"status": status, **changes}
        _write_record(self.folder, self.record)
        (self.folder / PROGRESS).unlink(missing_ok=True)


def record_death(folder: Path, cfg: DictConfig, reason: str) -> None:
    """Mark a run failed whose process died without a word, unless another one has it in hand."""
    try:
        record = read_record(folder)
    except InputError:
        folder.mkdir(parents=True, exist_ok=True)
        record = Recorder(folder, cfg, from_step=0).record
    if record["status"] in ("running", "interrupted") and not is_locked(folder):
        _write_record(folder, {**record, "status": "failed", "error": reason})


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    write_atomically(folder / RECORD, json.dumps(record, indent=2) + "\n")


def _timestamp(seconds: float) -> str:
    return time.strftime(TIME, time.gmtime(seconds))


@cache
def git_state() -> dict[str, Any] | None:
    """Return commit and dirtiness of the checkout that stelab runs from; None for a wheel.

    As they were when this process first asked: what it runs, it has imported.
    """
    source = Path(__file__).resolve().parents[4]
    if not (source / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _machine(*, threads: int) -> dict[str, Any]:
    import torch

    gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "threads": threads,
        "gpus": [torch.cuda.get_device_name(index) for index in gpus],
        "python": platform.python_version(),
    }


def _processor() -> str:
    """Return the processor's model, which Python knows on macOS and Windows only."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
