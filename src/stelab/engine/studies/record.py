"""A run's folder: what lies where in it; and run.json: what the run is and how it went."""

import json
import os
import platform
import re
import shutil
import subprocess
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from typing_extensions import Self

from stelab.engine.config.composition import Composition, recorded
from stelab.engine.config.identity import fingerprint
from stelab.engine.config.validate import plain
from stelab.engine.errors import InputError
from stelab.engine.files import write_atomically
from stelab.engine.project import now_called, project
from stelab.engine.studies.documents import read_json, read_yaml
from stelab.engine.studies.headline import Headline
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

# The most bytes that are read: about a thousand times what stelab writes.
_MAX_RECORD, _MAX_CONFIG = 4 * 2**20, 2**20


# See `stelab.engine.files`: a process writes beside a file what takes its place.
_HALF_WRITTEN = re.compile(r"\.(config\.yaml|run\.json|metrics\.csv|\w+\.ckpt|\w+\.png)\.\d+")


class Pruned(Exception):
    """A sweeper stopped a run because it was not worth finishing."""


class RunFolder:
    """The folder of one run, ``outputs/<study>/<run id>``, whether it is there or not."""

    def __init__(self, path: Path):
        self.path, self.name, self.study = path, path.name, path.parent
        self.config = path / "config.yaml"  # resolved
        self.record = path / "run.json"
        self.metrics = path / "metrics.csv"  # a row an epoch
        self.progress = path / "progress.json"  # how far training has come, while it goes on
        self.unfinished_progress = path / "progress.new"  # becomes the other once it is whole
        self.checkpoints = path / "checkpoints"
        self.events = path / "tb"  # TensorBoard's
        self.figures = path / "figures"

    @classmethod
    def of(cls, cfg: DictConfig) -> Self:
        """Return the folder of a run's configuration."""
        return cls(Path(cfg.paths.run))

    def empty(self) -> None:
        """Remove what a run writes, but for the lock; what somebody else has put there stays."""
        files = (self.config, self.record, self.metrics, self.progress, self.unfinished_progress)
        names = {path.name for path in (*files, self.checkpoints, self.events, self.figures)}
        for path in self.path.iterdir():
            half_written = path.name.startswith(".") and path.name[1:].rpartition(".")[0] in names
            if path.name in names or half_written:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def remove_half_written(self) -> None:
        """Remove what a process that was killed while it wrote has left under a name of its own."""
        self.unfinished_progress.unlink(missing_ok=True)
        for folder in (self.path, self.checkpoints, self.figures):
            for path in folder.glob(".*"):
                if _HALF_WRITTEN.fullmatch(path.name):
                    path.unlink()

    def status(self) -> str | None:
        """Return its run's status, as run.json says; None where that cannot be read."""
        try:
            return str(read_record(self.path)["status"])
        except InputError:
            return None


@dataclass(frozen=True)
class Run:
    """A run's folder, read."""

    folder: Path  # outputs/<study>/<run id>
    # "running" (or killed while it was), "finished", "failed", "interrupted" by a signal or
    # "pruned"; see `stelab.engine.studies.status`.
    status: str
    config: dict[str, Any]  # resolved, plain containers
    metrics: dict[str, float]  # the final value of each, by its name in TensorBoard
    record: dict[str, Any]  # all of run.json

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
        record: dict[str, Any] = read_json(RunFolder(Path(folder)).record, limit=_MAX_RECORD)
        if problem := problem_with_record(record):
            raise ValueError(problem)
    return record


def read_run(folder: Path | str, *, record: dict[str, Any] | None = None) -> Run:
    """Read a run's folder, but run.json where it was just read; InputError if it is unreadable."""
    folder = Path(folder)
    record = record or read_record(folder)
    with _explained(folder):
        # Written resolved: plain YAML, which needs no OmegaConf.
        config = read_yaml(RunFolder(folder).config, limit=_MAX_CONFIG)
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
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{where} is not a run's folder: there is no {Path(error.filename).name} in it"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{where} is not a readable run: {error}") from error


def finished_run(cfg: DictConfig) -> Run | None:
    """Return the finished run of a configuration, unless it lacks metrics or is to run again."""
    if cfg.rerun:
        return None
    try:
        run = read_finished(cfg.paths.run)
    except InputError:
        return None
    asked = (cfg.monitor, Headline.of(run.record).test)
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
    """Writes config.yaml and run.json of a run; ``timings.attempts`` lists each start.

    Args:
        folder: The run's.
        cfg: Its configuration.
        from_step: Where it starts.
        task: What `Headline` reads; None where that is not known yet.
        threads: Of the CPU, that it takes; None where it never began.
        executor: What takes its steps: itself alone, or others with it; None likewise.
    """

    def __init__(
        self,
        folder: Path,
        cfg: DictConfig,
        *,
        from_step: int,
        task: dict[str, Any] | None = None,
        threads: int | None = None,
        executor: str | None = None,
    ):
        self.folder = RunFolder(folder)
        self.started = time.time()
        earlier: list[dict[str, Any]] = []
        if from_step:
            with suppress(InputError):
                earlier = part_of(read_record(folder), "timings").get("attempts") or []
        self.attempt: dict[str, Any] = {
            "started": time.strftime(TIME, time.gmtime(self.started)),
            "from_step": from_step,
            "host": platform.node(),
            "pid": os.getpid(),
            "executor": executor,
            "commit": (git_state() or {}).get("commit"),  # it may have changed since the last
        }
        self.record: dict[str, Any] = {
            "format": FORMAT,
            "status": "running",
            "composition": recorded(cfg),
            "fingerprint": fingerprint(cfg),
            **({"task": task} if task else {}),
            "tags": [*(cfg.get("tags") or [])],
            "executor": executor,
            "metrics": {},
            "git": git_state(),
            "versions": {name: version(name) for name in project().versions},
            "machine": _machine(threads=threads),
            "timings": {
                "started": (earlier or [self.attempt])[0]["started"],
                "attempts": [*earlier, self.attempt],
            },
            "error": None,
        }
        write_atomically(self.folder.config, OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
        _write_record(self.folder, self.record)

    def finish(self, metrics: dict[str, float], *, arithmetic: dict[str, Any], **rest: Any) -> None:
        """Record the final metrics, what computed them, and the rest, such as `epochs`."""
        self.record["machine"] |= arithmetic
        self._end("finished", metrics=metrics, **rest)

    def stop(self, error: BaseException, *, status: str) -> None:
        """Record why it ended before its end, with the traceback of a failure."""
        text = "".join(traceback.format_exception(error)) if status == "failed" else str(error)
        with suppress(OSError):  # a full disk, which is the error that is told anyway
            self._end(status, error=text)

    def _end(self, status: str, **changes: Any) -> None:
        now = time.time()
        timings, ended = self.record["timings"], time.strftime(TIME, time.gmtime(now))
        self.attempt |= {"ended": ended, "seconds": round(now - self.started, 3)}
        timings["ended"] = ended
        timings["seconds"] = round(sum(a.get("seconds", 0) for a in timings["attempts"]), 3)
        self.record |= {"status": status, **changes}
        _write_record(self.folder, self.record)
        self.folder.progress.unlink(missing_ok=True)


def record_death(folder: Path, cfg: DictConfig, reason: str) -> None:
    """Mark a run failed whose process died without a word, unless another one has it in hand."""
    try:
        record = read_record(folder)
    except InputError:
        folder.mkdir(parents=True, exist_ok=True)
        record = Recorder(folder, cfg, from_step=0).record
    if record["status"] in ("running", "interrupted") and not is_locked(folder):
        _write_record(RunFolder(folder), {**record, "status": "failed", "error": reason})


def _write_record(folder: RunFolder, record: dict[str, Any]) -> None:
    write_atomically(folder.record, written_record(record))


def written_record(record: dict[str, Any]) -> str:
    """Return the text of a run.json."""
    return json.dumps(record, indent=2) + "\n"


@cache
def git_state() -> dict[str, Any] | None:
    """Return commit and dirtiness of the checkout that was imported; None for a wheel."""
    source = Path(__file__).resolve().parents[4]
    if not (source / ".git").exists():
        return None
    ask = partial(subprocess.check_output, cwd=source, text=True, stderr=subprocess.DEVNULL)
    try:
        commit, changes = ask(["git", "rev-parse", "HEAD"]), ask(["git", "status", "--porcelain"])
        return {"commit": commit.strip(), "dirty": bool(changes.strip())}
    except (OSError, subprocess.CalledProcessError):
        return None


def _machine(*, threads: int | None) -> dict[str, Any]:
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
