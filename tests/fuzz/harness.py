"""What must hold for every command line, whatever it is given; and a way to find out."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zygote import Zygote

SECRET = "qz7f-secret-of-the-environment-wk31"  # in $STELAB_SECRET; nobody may see it
CANARY = "canary"  # a file that only what executes foreign code makes
SECONDS = 300.0  # ends a hang; no command here needs more than a few
MEBIBYTES = 1024.0
LINES = 40  # of stderr: a line a mistake


@dataclass
class Outcome:
    """How a command line ended."""

    argv: Sequence[str]
    code: int | None  # None: it hung
    out: str
    err: str
    seconds: float
    mebibytes: float
    changed: list[str]  # files that are new, gone or different
    canary: bool

    def broken(self, *, writes: Sequence[str] = (), foreign: bool = False) -> list[str]:
        """Return the properties that do not hold.

        Args:
            writes: Where it may write: paths from the folder it ran in.
            foreign: Whether it was given files of strangers: then nothing of the environment
                may show, no code of theirs run and no terminal obey them.
        """
        found = []
        if self.code is None:
            found.append(f"hung: killed after {SECONDS:.0f} s")
        elif self.code not in (0, 1, 2):
            found.append(f"exit code {self.code}")
        if "Traceback" in self.err or "Traceback" in self.out:
            found.append(f"traceback: {last_line(self.err)}")
        elif self.code in (1, 2) and not self.err.strip():
            found.append(f"exit code {self.code} without a word")
        if self.err.count("\n") > LINES:
            found.append(f"{self.err.count(chr(10))} lines on stderr")
        if self.mebibytes > MEBIBYTES:
            found.append(f"{self.mebibytes:.0f} MiB")
        allowed = tuple(writes)
        if outside := [name for name in self.changed if not under(name, allowed)]:
            found.append(f"wrote {outside[:3]!r}")
        if foreign:
            if self.canary:
                found.append("executed foreign code: the canary file is there")
            if SECRET in self.out + self.err + "".join(self.changed):
                found.append("showed a secret of the environment")
            if controls := re.findall(r"[^\n\t\x20-\x7e\x80-\U0010ffff]|[\x80-\x9f]", self.said()):
                found.append(f"control characters reach the terminal: {controls[:3]!r}")
        return found

    def said(self) -> str:
        """Return what it printed."""
        return self.out + self.err

    def command(self) -> str:
        """Return the command line, to paste into a shell."""
        return shlex.join(["stelab", *self.argv]).encode("unicode_escape").decode()


def last_line(text: str) -> str:
    """Return what a traceback ends with."""
    lines = [line for line in text.splitlines() if re.match(r"[\w.]+(: |$)", line)]
    return (lines or text.splitlines() or [""])[-1][:200]


def under(name: str, folders: Sequence[str]) -> bool:
    """Tell whether a path lies in one of some folders, or is one of them."""
    return any(name == folder or name.startswith(f"{folder}/") for folder in folders)


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return mode, size and time of every path below a folder, without following links."""
    found = {}
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(top, name)
            info = os.lstat(path)
            size = 0 if name in folders else info.st_size
            modified = 0 if name in folders else info.st_mtime_ns
            found[os.path.relpath(path, folder)] = (info.st_mode, size, modified)
    return found


class Runner:
    """Runs command lines in a folder that is watched: the working folder and a HOME beside it.

    Args:
        folder: An empty folder. Commands run in ``here``, with ``home`` as HOME, ``tmp`` as
            TMPDIR, and would leave their canary beside them.
        zygote: What forks them.
    """

    def __init__(self, folder: Path, zygote: Zygote):
        self.folder = folder
        self.here, self.home, self.tmp = (folder / name for name in ("here", "home", "tmp"))
        for path in (self.here, self.home, self.tmp):
            path.mkdir(parents=True)
        self.canary = folder / CANARY
        self.environment = {
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "TMPDIR": str(self.tmp),
            "MPLCONFIGDIR": str(self.tmp),
            "STELAB_SECRET": SECRET,
            "COLUMNS": "200",
            "http_proxy": "http://127.0.0.1:9",  # nothing is downloaded
            "https_proxy": "http://127.0.0.1:9",
        }
        self.zygote = zygote

    def __call__(self, *argv: str) -> Outcome:
        """Run ``stelab ARGV...``."""
        before = self.state()
        begun = time.monotonic()
        environment = {**os.environ, **self.environment}
        fork = self.zygote.start(*argv, cwd=self.here, environment=environment)
        try:
            code: int | None = fork.wait(SECONDS)
        except subprocess.TimeoutExpired:
            code = None
            os.killpg(fork.pid, signal.SIGKILL)
            fork.wait()
        after = self.state()
        out, err = fork.out.read_bytes(), fork.err.read_bytes()
        canary = self.canary.exists()
        self.canary.unlink(missing_ok=True)
        return Outcome(
            argv=argv,
            out=out.decode(errors="backslashreplace"),
            err=err.decode(errors="backslashreplace"),
            changed=sorted(n for n in before | after if before.get(n) != after.get(n)),
            canary=canary,
            code=code,
            seconds=time.monotonic() - begun,
            mebibytes=fork.mebibytes,
        )

    def state(self) -> dict[str, tuple[int, int, int]]:
        """Return what may not change, by paths from the working folder."""
        found = snapshot(self.here)
        found |= {f"~/{name}": value for name, value in snapshot(self.home).items()}
        beside = {path.name for path in self.folder.iterdir()} - {"here", "home", "tmp", CANARY}
        return found | {f"../{name}": (0, 0, 0) for name in beside}


@dataclass
class Findings:
    """What went wrong in many command lines, so that one does not hide the others."""

    count: int = 0
    lines: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome, broken: Sequence[str], *, origin: str = "") -> None:
        """Count a command line, and keep it where something is broken."""
        self.count += 1
        self.lines += [f"{text}\n    {origin}{outcome.command()}" for text in broken]

    def raise_any(self) -> None:
        """Fail with all of them."""
        assert not self.lines, "\n".join(
            [f"{len(self.lines)} findings in {self.count} command lines:", *self.lines]
        )
