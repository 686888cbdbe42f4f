"""Worker processes, forked from one that has imported all that a run needs.

To import torch and Lightning takes longer than a short job does. So one process does it for all
workers, while the driver still checks the jobs. It does nothing else: threads and what a GPU's
driver holds would not survive a fork, and each worker has an environment of its own, which must be
there before anything looks at it.
"""

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from stelab.engine.ending import ending_at_once
from stelab.engine.importing import importing
from stelab.engine.launchers.job import follow
from stelab.engine.project import project

_MESSAGE = struct.Struct("=i")
_FORK, _LEAVE = 0, -1  # any other message is the id of a process: how did it end?
_HELD_BACK = (signal.SIGINT, signal.SIGTERM)  # of the process that forks, for good


@dataclass(frozen=True)
class Worker:
    """A process that was forked.

    Attributes:
        pid: Its id, no other's before `ForkServer.exit_code` or `ForkServer.close` has returned.
        connection: To it. Closed here, it is asked to end; once it has ended, EOFError or OSError.
    """

    pid: int
    connection: Connection


class ForkServer:
    """The process that forks, as its driver sees it. It ends with the driver, however that ends.

    Args:
        modules: What it imports.
    """

    def __init__(self, modules: Sequence[str]):
        self._socket, theirs = socket.socketpair()
        self._has_forked = False
        code = (
            f"import sys; sys.path[:] = {ascii([*map(str, sys.path)])}; sys.argv = {sys.argv!a}; "
            f"from {__name__} import serve; serve({theirs.fileno()}, {[*modules]!a})"
        )
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)  # which it inherits
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code], pass_fds=[theirs.fileno()]
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def fork(self, work: Callable[[Connection], None], environment: Mapping[str, str]) -> Worker:
        """Start a process that does `work`, a function of a module, with such an environment.

        It ends when `work` returns, or finds that this process has left the connection.

        Raises:
            OSError: The process that forks is gone.
        """
        ours, theirs = Pipe()
        try:
            with theirs:
                socket.send_fds(self._socket, [_MESSAGE.pack(_FORK)], [theirs.fileno()])
            worker = Worker(self._answer(), ours)
        except BaseException:  # such as a signal; then nobody else could end the worker
            ours.close()
            raise
        self._has_forked = True
        ours.send((work, dict(environment)))
        return worker

    def exit_code(self, worker: Worker) -> int:
        """Wait until a worker has ended; return its exit code, negative for a signal."""
        self._socket.sendall(_MESSAGE.pack(worker.pid))
        return self._answer()

    def close(self) -> None:
        """End, once all workers have, which nobody is connected to any more."""
        if self._has_forked:
            with suppress(OSError):
                self._socket.sendall(_MESSAGE.pack(_LEAVE))
        else:  # it may still import
            self._process.kill()
        self._process.wait()
        self._socket.close()

    def _answer(self) -> int:
        answer = self._socket.recv(_MESSAGE.size, socket.MSG_WAITALL)
        if len(answer) < _MESSAGE.size:
            raise OSError("the process that forks workers has ended")
        return int(_MESSAGE.unpack(answer)[0])


_early: list[ForkServer] = []  # one at most


@contextmanager
def importing_early() -> Iterator[None]:
    """Begin now with what workers import, for the `fork_server` that is asked for within."""
    _early.append(ForkServer(project().imports))
    try:
        yield
    finally:
        while _early:
            _early.pop().close()


def fork_server() -> ForkServer:
    """Return the process that forks, which the caller closes."""
    return _early.pop() if _early else ForkServer(project().imports)


def serve(descriptor: int, modules: Sequence[str]) -> None:
    """Be the process that forks, and be those that it forked."""
    with ending_at_once():
        with importing():
            for name in modules:
                with suppress(Exception):  # whoever needs it imports it, and tells why it cannot
                    import_module(name)
        server = os.getpid()
        with socket.socket(fileno=descriptor) as driver:
            channel = _serve(driver)
        if channel is not None:
            _work(Connection(channel), server)


def _serve(driver: socket.socket) -> int | None:
    """Do what the driver asks for; in a process that was forked return what connects it."""
    while True:
        data, channels, *_ = socket.recv_fds(driver, _MESSAGE.size, 1)
        if not data:  # the driver has died
            return None
        (message,) = _MESSAGE.unpack(data)
        if message == _LEAVE:
            with suppress(ChildProcessError):  # when there are no more
                while True:
                    os.wait()
            return None
        elif message != _FORK:
            _, status = os.waitpid(message, 0)
            driver.sendall(_MESSAGE.pack(os.waitstatus_to_exitcode(status)))
        elif pid := os.fork():
            os.close(channels[0])
            driver.sendall(_MESSAGE.pack(pid))
        else:
            os.set_inheritable(channels[0], False)
            return channels[0]


def _work(connection: Connection, server: int) -> None:
    """Be a worker: Ctrl-C is for the driver, with which it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
    follow(lambda: os.getppid() == server)
    with connection, suppress(EOFError, ConnectionError):  # the driver has left it
        work, environment = connection.recv()
        os.environ.clear()
        os.environ.update(environment)
        work(connection)
