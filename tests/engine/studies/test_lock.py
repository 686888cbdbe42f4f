"""A run's lock: one holder, and none that is dead."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stelab.engine.errors import InputError
from stelab.engine.studies import lock
from stelab.engine.studies.lock import holder, is_locked, locked

HOLD = """
import sys, time
from pathlib import Path
from stelab.engine.errors import InputError
from stelab.engine.studies import lock
lock.LEASE = float(sys.argv[2])
with lock.locked(Path(sys.argv[1]), on_loss=lambda: print("lost", flush=True)):
    print("held", flush=True)
    time.sleep(600)
"""


Hold = Callable[..., "subprocess.Popen[str]"]


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()  # its parent must take notice, or its number stays in use


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Start processes that hold a lock, perhaps on another host."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, *, host: str | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD, str(folder), str(lock.LEASE)]
        if host is not None:
            # A host name of its own, and its own process numbers, as another machine has.
            script = f'hostname {host}; exec "$@"'
            apart = ["unshare", "--map-root-user", "--uts", "--pid", "--fork", "--kill-child"]
            command = [*apart, "sh", "-c", script, "sh", *command]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        end(process)
        assert process.stdout is not None
        process.stdout.close()


def acquire(folder: Path) -> bool:
    """Take the lock and give it back; tell whether another process held it before."""
    with locked(folder, on_loss=lambda: None) as waited:
        assert is_locked(folder)
    return waited


def test_nobody_holds_it(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "run")
    assert not acquire(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_no_lock_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lock"
    if kind == "link":
        path.symlink_to("nowhere")
    else:
        {"folder": os.mkdir, "pipe": os.mkfifo}[kind](path)
    for look in (is_locked, acquire):
        with pytest.raises(InputError, match=r"lock must be the file .*: remove it$"):
            look(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="must be a run's folder, but a file is there: move it"):
        acquire(tmp_path / "file")


def test_a_lock_of_other_settings_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(tmp_path, on_loss=lambda: None):
        monkeypatch.setattr(lock, "LEASE", 7.0)  # as in another version
        assert is_locked(tmp_path)
        with pytest.raises(InputError, match="is not of this version of stelab: remove it if"):
            acquire(tmp_path)


def test_a_living_holder_is_waited_for(
    tmp_path: Path, hold: Hold, caplog: pytest.LogCaptureFixture
) -> None:
    process = hold(tmp_path)
    assert is_locked(tmp_path)
    assert holder(tmp_path).startswith(f"process {process.pid} on ")
    threading.Timer(1, lambda: end(process)).start()
    with caplog.at_level(logging.INFO):
        assert acquire(tmp_path)
    assert f"is being trained by process {process.pid}" in caplog.text


def test_a_dead_process_holds_nothing(tmp_path: Path, hold: Hold) -> None:
    process = hold(tmp_path)
    end(process)
    assert (tmp_path / lock.NAME).exists()
    assert not is_locked(tmp_path)
    assert not acquire(tmp_path)


def test_a_stopped_process_still_holds_it(tmp_path: Path, hold: Hold) -> None:
    process = hold(tmp_path)
    process.send_signal(signal.SIGSTOP)
    assert is_locked(tmp_path)


def test_a_lock_of_another_host_is_void_after_the_lease(
    tmp_path: Path, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LEASE", 3.0)
    process = hold(tmp_path, host="elsewhere")
    assert holder(tmp_path).endswith(" on elsewhere")
    time.sleep(4)
    assert is_locked(tmp_path)  # it lives, and touches the lock
    process.kill()
    start = time.monotonic()
    assert acquire(tmp_path)  # it waits: the process cannot be looked for
    assert time.monotonic() - start >= 2.9
    # Nobody took it since: it is void from its age alone, for those that only look.
    (tmp_path / lock.NAME).write_text("of a host that is gone")
    os.utime(tmp_path / lock.NAME, (time.time() - 7, time.time() - 7))
    assert not is_locked(tmp_path)


def test_a_holder_that_was_taken_for_dead_is_told(
    tmp_path: Path, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LEASE", 1.5)
    process = hold(tmp_path, host="elsewhere")
    (sleeper,) = children(process.pid)
    os.kill(sleeper, signal.SIGSTOP)  # a machine that is suspended
    with locked(tmp_path, on_loss=lambda: None):
        os.kill(sleeper, signal.SIGCONT)
        assert process.stdout is not None
        assert process.stdout.readline() == "lost\n"


def children(pid: int) -> list[int]:
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
