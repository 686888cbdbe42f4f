"""Runs command lines of stelab, each in a fork of one process that has imported everything.

As a program, which `Zygote` starts: requests and answers are lines of JSON through a socket, of all
workers of pytest-xdist. So a command costs no start of Python, may hang, crash or eat memory, and
leaves nothing behind for the next. What depends on how Python starts (PYTHON* in the environment,
what is imported) or starts itself again (trainer=ddp) needs a process of its own.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock

# The largest imports of the commands; what else they need they import themselves.
MODULES = (
    "hydra",
    "pandas",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.pyplot",
    "PIL.JpegImagePlugin",
    "pyarrow.parquet",
    "scipy.stats",
    "statsmodels.stats.multitest",
    "torch.utils.tensorboard",
    "tensorboard.plugins.projector",
    "stelab.apps.compare",
    "stelab.apps.main",
    "stelab.apps.train",
    "stelab.engine.sweepers.plan",
    "stelab.engine.report.board.writing",
    "stelab.engine.report.page.write",
    "stelab.engine.report.study_figures",
    "stelab.engine.report.printed_comparison",
    "stelab.lab.training.check",
    "stelab.lab.training.reconstructions",
    "stelab.lab.training.run",
)


class Fork:
    """A command that was started, used as `subprocess.Popen` is.

    Attributes:
        pid: Its process, and the group of all that it starts.
        out: The file that its stdout goes to.
        err: The same of stderr.
        returncode: Its exit code, negative for a signal; None while it is not known.
        mebibytes: The most memory that it held; 0 until it ended.
    """

    def __init__(self, zygote: Zygote, pid: int, out: Path, err: Path):
        self.pid = pid
        self.out, self.err = out, err
        self.returncode: int | None = None
        self.mebibytes = 0.0
        self._zygote = zygote
        self._descriptor = os.pidfd_open(pid)

    def __enter__(self) -> Fork:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        if self.returncode is None:
            ended = self._zygote.ask({"pid": self.pid})
            if ended["code"] is not None:
                self.returncode, self.mebibytes = ended["code"], ended["mebibytes"]
                os.close(self._descriptor)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ended; return the exit code.

        Raises:
            subprocess.TimeoutExpired: It runs still, after so many seconds.
        """
        if self.poll() is None:
            readable, _, _ = select.select([self._descriptor], [], [], timeout)
            if not readable:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        while (code := self.poll()) is None:
            time.sleep(0.001)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait until it ended; return what it printed on stdout and stderr."""
        self.wait(timeout)
        return self.out.read_text(), self.err.read_text()

    def send_signal(self, number: int) -> None:
        """Send a signal to it, and not to what it started."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, and not what it started."""
        self.send_signal(signal.SIGKILL)


class Zygote:
    """The process that forks, as those see it who ask it; it ends after the last of them.

    Args:
        environment: Of the process; each command has one of its own.
        folder: Where it is found: those who name the same one share it.
        prefix: A program that runs it, such as ``unshare``.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path, *, prefix: Sequence[str] = ()):
        self.folder = tempfile.TemporaryDirectory()  # of what commands print
        self.started = 0
        self.process: subprocess.Popen[str] | None = None
        address = folder / "zygote"
        with FileLock(folder / "zygote.lock"):
            if not self._connect(address):
                self.process = subprocess.Popen(
                    [*prefix, sys.executable, __file__, str(address)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**environment, "OMP_NUM_THREADS": "1"},
                )
                assert self.process.stdout and self.process.stdout.readline() == "ready\n"
                assert self._connect(address)

    def _connect(self, address: Path) -> bool:
        """Return whether one is there, and not about to end."""
        self.socket = socket.socket(socket.AF_UNIX)
        self.stream = self.socket.makefile("rw")
        with suppress(OSError):
            self.socket.connect(str(address))
            if self.stream.readline() == "ready\n":
                return True
        self._leave()
        return False

    def _leave(self) -> None:
        self.stream.close()
        self.socket.close()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request; return the answer."""
        write(self.stream, json.dumps(request))
        answer: dict[str, Any] = json.loads(self.stream.readline())
        return answer

    def start(
        self,
        *argv: str,
        cwd: Path,
        environment: Mapping[str, str],
        stderr: int | None = None,
        code: str | None = None,
    ) -> Fork:
        """Start ``stelab ARGV...``.

        Args:
            argv: The command line.
            cwd: The folder it runs in.
            environment: All of its environment. Of Python's own variables only PYTHONPATH acts.
            stderr: `subprocess.STDOUT` as in `subprocess.Popen`, or None.
            code: What runs instead, as by ``python -c CODE ARGV...``.
        """
        self.started += 1
        out = err = Path(self.folder.name, f"{self.started}.out")
        if stderr is None:
            err = out.with_suffix(".err")
        for path in (out, err):
            path.touch()
        request = {
            "argv": [os.fsencode(word).hex() for word in argv],
            "cwd": str(cwd),
            "environment": dict(environment),
            "out": str(out),
            "err": str(err),
            "code": code,
        }
        return Fork(self, self.ask(request)["pid"], out, err)

    def close(self) -> None:
        """Leave the process; who started it waits until all have."""
        self._leave()
        if self.process:
            with self.process:
                self.process.wait()
        self.folder.cleanup()


def write(stream: TextIO, line: str) -> None:
    """Send a line."""
    stream.write(f"{line}\n")
    stream.flush()


def run(argv: list[str], code: str | None) -> int:
    """Run one command line as ``python -m stelab`` does, or code; return the exit code."""
    from stelab.apps.main import main

    sys.argv = ["stelab", *argv]
    try:
        if code is None:
            main()
        else:
            exec(code, {"__name__": "__main__"})
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
        more = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        sys.path[:1] = [request["cwd"], *filter(None, more)]  # as `python -m` has it
        for number, name in ((0, os.devnull), (1, request["out"]), (2, request["err"])):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND
            os.dup2(os.open(name, flags), number)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, encoding="utf-8", errors=errors, closefd=False)
            for number, mode, errors in (
                (0, "r", "strict"),
                (1, "w", "strict"),
                (2, "w", "backslashreplace"),
            )
        )
        argv = [os.fsdecode(word) for word in map(bytes.fromhex, request["argv"])]
        code = run(argv, request["code"])
        sys.stdout.flush()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        sys.stderr.flush()
        os._exit(code)


def start(request: dict[str, Any], sockets: Sequence[socket.socket]) -> dict[str, Any]:
    """Fork; return the process of the command, which has none of the sockets."""
    pid = os.fork()
    if not pid:
        for inherited in sockets:
            os.close(inherited.fileno())
        child(request)
    return {"pid": pid}


def look(pid: int) -> dict[str, Any]:
    """Return how a command ended, with None as its code while it runs."""
    ended, status, usage = os.wait4(pid, os.WNOHANG)
    if not ended:
        return {"code": None}
    return {"code": os.waitstatus_to_exitcode(status), "mebibytes": usage.ru_maxrss / 1024}


def warm_up() -> None:
    """Import, and do what takes long for the first time: parse a configuration, read digits."""
    for name in MODULES:
        __import__(name)
    import torch

    import stelab

    # The forks of a process that has asked CUDA for its devices cannot fork to train.
    count, torch._C._cuda_getDeviceCount = torch._C._cuda_getDeviceCount, lambda: 0
    try:
        with tempfile.TemporaryDirectory() as folder:
            stelab.train(stelab.compose("debug=fast", "model=mlp", f"paths.outputs={folder}"))
    finally:
        torch._C._cuda_getDeviceCount = count


def serve(address: str) -> None:
    """Answer requests until all have left who asked."""
    Path(address).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server, selectors.PollSelector() as selector:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        selector.register(server, selectors.EVENT_READ)
        streams: dict[Any, TextIO] = {}
        while True:
            for key, _ in selector.select():
                if key.fileobj is server:
                    connection, _ = server.accept()
                    streams[connection] = connection.makefile("rw")
                    selector.register(connection, selectors.EVENT_READ)
                    write(streams[connection], "ready")
                elif line := streams[key.fileobj].readline():
                    request = json.loads(line)
                    known = "pid" in request
                    answer = look(request["pid"]) if known else start(request, [server, *streams])
                    write(streams[key.fileobj], json.dumps(answer))
                else:
                    selector.unregister(key.fileobj)
                    streams.pop(key.fileobj).close()
            if not streams:
                break


def main() -> None:
    """Warm up, then serve."""
    import torch

    torch.set_num_threads(1)
    warm_up()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What eats memory ends before the machine does; a finding it is far earlier.
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
    gc.collect()
    gc.freeze()  # what was imported, for all forks
    serve(sys.argv[1])


if __name__ == "__main__":
    main()
