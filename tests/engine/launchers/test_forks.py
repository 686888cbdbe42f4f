"""Processes that are forked from one that has imported what they need."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from stelab.engine.launchers.forks import ForkServer, fork_server, importing_early

IMPORTED = "what_the_server_imports"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    (tmp_path / f"{IMPORTED}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    server = ForkServer([IMPORTED])
    yield server
    server.close()


def tell(connection: Connection) -> None:
    connection.send((dict(os.environ), IMPORTED in sys.modules, sys.argv))


def test_a_worker_has_what_was_imported_and_an_environment_of_its_own(server: ForkServer) -> None:
    for number in range(2):
        environment = {"OWN": str(number), "PATH": "elsewhere"}
        worker = server.fork(tell, environment)
        assert worker.connection.recv() == (environment, True, sys.argv)
        assert server.exit_code(worker) == 0


def end(connection: Connection) -> None:
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
    os.kill(os.getpid(), signal.SIGINT)  # a terminal's Ctrl-C
    how = connection.recv()
    if how < 0:
        os.kill(os.getpid(), -how)
    sys.exit(how)


@pytest.mark.parametrize("how", [0, 3, -signal.SIGTERM, -signal.SIGKILL])
def test_it_is_known_how_a_worker_ended_and_the_others_go_on(server: ForkServer, how: int) -> None:
    worker, other = (server.fork(end, {}) for _ in range(2))
    worker.connection.send(how)
    with pytest.raises((EOFError, ConnectionResetError)):
        worker.connection.recv()
    assert server.exit_code(worker) == how
    other.connection.send(0)
    assert server.exit_code(other) == 0


def wait(connection: Connection) -> None:
    connection.send(os.getppid())
    connection.recv()


def test_signals_do_not_end_the_process_that_forks(server: ForkServer) -> None:
    worker = server.fork(wait, {})
    pid = worker.connection.recv()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    again = server.fork(wait, {})
    assert again.connection.recv() == pid
    for left in (worker, again):
        left.connection.close()


def look(connection: Connection) -> None:
    connection.send({"torch", "pytorch_lightning"} <= {*sys.modules})
    import torch

    # OpenMP's threads and CUDA do not survive a fork.
    torch.set_num_threads(2)
    product = torch.ones(512, 512) @ torch.ones(512, 512)
    connection.send((product.sum().item(), torch.cuda._is_in_bad_fork()))


def test_what_a_run_imports_can_be_forked() -> None:
    with importing_early():
        server = fork_server()
    worker = server.fork(look, os.environ)
    assert worker.connection.recv()
    assert worker.connection.recv() == (512**3, False)
    server.close()
