"""Runs command lines of stelab, each in a fork of one process that has imported everything.

As a program: requests are lines of JSON on stdin, answers lines of JSON on stdout; `Zygote` starts
it. So a command costs no start of Python, may hang, crash or eat memory, and leaves nothing behind
for the next. What depends on how Python starts (PYTHON* in the environment, what is imported) or
starts itself again (trainer=ddp) needs a process of its own.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# The largest imports of the commands; what else they need they import themselves.
MODULES = (
    "hydra",
    "pandas",
    "matplotlib.pyplot",
    "scipy.stats",
    "stelab.apps.main",
    "stelab.engine.sweepers.plan",
    "stelab.engine.report.board.writing",
    "stelab.engine.report.page",
    "stelab.engine.report.study_figures",
    "stelab.lab.training.run",
)


class Zygote:
    """The process that forks, as those see it who ask it.

    Args:
        environment: Of the process; each command has one of its own.
    """

    def __init__(self, environment: Mapping[str, str]):
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout and self.process.stdout.readline() == "ready\n"

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        out: Path,
        err: Path,
        seconds: float,
    ) -> dict[str, Any]:
        """Run ``stelab ARGV...``.

        Args:
            argv: The command line.
            cwd: The folder it runs in.
            environment: All of its environment.
            out: The file that its stdout goes to.
            err: The same of stderr.
            seconds: How long it may take.

        Returns:
            ``code`` (None where it hung, and was killed), ``seconds`` and ``mebibytes``.
        """
        assert self.process.stdin and self.process.stdout
        request = {
            "argv": [os.fsencode(word).hex() for word in argv],
            "cwd": str(cwd),
            "environment": dict(environment),
            "out": str(out),
            "err": str(err),
            "seconds": seconds,
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def run(argv: list[str]) -> int:
    """Run one command line as ``python -m stelab`` does; return its exit code."""
    from stelab.apps.main import main

    sys.argv = ["stelab", *argv]
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def child(request: dict[str, Any]) -> None:
    """Be the process of one command; never returns."""
    os.setsid()
    code = 1
    try:
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        for number, name in ((0, os.devnull), (1, request["out"]), (2, request["err"])):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(name, flags, 0o600), number)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, encoding="utf-8", errors=errors, closefd=False)
            for number, mode, errors in (
                (0, "r", "strict"),
                (1, "w", "strict"),
                (2, "w", "backslashreplace"),
            )
        )
        code = run([os.fsdecode(word) for word in map(bytes.fromhex, request["argv"])])
        sys.stdout.flush()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        sys.stderr.flush()
        os._exit(code)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Fork, wait within the time that is allowed, and tell how it ended."""
    begun = time.monotonic()
    pid = os.fork()
    if not pid:
        child(request)
    end = begun + request["seconds"]
    hung = False
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() > end and not hung:
            hung = True
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.005)
    return {
        "code": None if hung else os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - begun,
        "mebibytes": usage.ru_maxrss / 1024,
    }


def main() -> None:
    """Import, then answer requests until stdin ends."""
    for name in MODULES:
        __import__(name)
    import torch

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What eats memory ends before the machine does; a finding it is far earlier.
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
