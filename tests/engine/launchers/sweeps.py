"""Sweeps as real processes, of an estimator that shows where it runs and may kill its process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from waiting import PATIENCE
from zygote import Fork, Zygote

CLASS = '''
"""A straight-through estimator with notes."""

import os
import signal
import time
from pathlib import Path

from stelab.arguments import NonNegative, Real, Seed, Size, Text, checked
from stelab.estimators import Estimator, step, through


class Probe(Estimator):
    @checked
    def __init__(self, *, seed: Seed, notes: Text, sleep: NonNegative, victim: Real, deaths: Size):
        super().__init__()
        self.seed, self.notes, self.sleep = seed, Path(notes), sleep
        self.deaths = deaths if seed == victim else 0

    def forward(self, s, *, bits=None, generator=None):
        if self.training and not s.is_meta:  # nor before the first job, without numbers
            self.act()
        return through(s, step(s) if bits is None else bits, s.new_full(s.shape, 0.5))

    def act(self):
        note = self.notes / f"{self.seed}-{os.getpid()}"
        names = "CUDA_VISIBLE_DEVICES", "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
        note.write_text(" ".join(os.environ[name] for name in names if name in os.environ))
        time.sleep(self.sleep)
        for death in range(self.deaths):
            if not (self.notes / f"death{death}").exists():
                (self.notes / f"death{death}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
'''
YAML = """# Shows where it runs.
_target_: stranger.probe.Probe
seed: ${seed}
notes: notes
sleep: 0.0
victim: -1
deaths: 0
"""


class Sweep:
    """Starts ``stelab train -m`` in a folder of its own.

    Args:
        folder: It.
        environment: Variables to add.
        zygote: What forks the process.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str] | None = None, *, zygote: Zygote
    ):
        self.folder = folder
        self.zygote = zygote
        self.notes = folder / "notes"
        package, group = folder / "code" / "stranger", folder / "groups" / "estimator"
        for path in (self.notes, package, group):
            path.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "probe.py").write_text(CLASS)
        (group / "probe.yaml").write_text(YAML)
        code = [str(folder / "code"), os.environ.get("PYTHONPATH", "")]
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, code)),
            **(environment or {}),
        }

    def start(self, *overrides: str) -> Fork:
        """Start a sweep in a session of its own."""
        small = ("debug=fast", "model=mlp", "estimator=probe")
        command = ["train", "--config-dir", "groups", "-m", *small, *overrides]
        return self.zygote.start(*command, cwd=self.folder, environment=self.environment)

    def run(self, *overrides: str) -> tuple[int, str]:
        """Run a sweep; return its exit code and all that it printed."""
        with self.start(*overrides) as process:
            try:
                out, err = process.communicate(timeout=PATIENCE)
            except BaseException:
                process.kill()
                raise
        return process.wait(), out + err

    def metrics(self) -> dict[int, bytes]:
        """Return metrics.csv of each run, by its seed."""
        files = self.folder.glob("outputs/debug/*/metrics.csv")
        return {_seed(path.parent): path.read_bytes() for path in files}

    def records(self) -> dict[int, dict[str, Any]]:
        """Return run.json of each run, by its seed."""
        files = self.folder.glob("outputs/debug/*/run.json")
        return {_seed(path.parent): json.loads(path.read_text()) for path in files}

    def seen(self) -> set[int]:
        """Return the seeds that have trained."""
        return {int(note.name.split("-")[0]) for note in self.notes.glob("*-*")}


def _seed(folder: Path) -> int:
    return int(folder.name.split("-s")[1].split("-")[0])


def processes(session: int) -> list[str]:
    """Return what runs in the session that the process of this id started."""
    listed = subprocess.run(["ps", "-eo", "sid=,pid=,args="], capture_output=True, text=True)
    return [line for line in listed.stdout.splitlines() if line.split()[0] == str(session)]
