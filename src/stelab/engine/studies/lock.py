"""One process trains a run: the lock in its folder."""

import logging
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from stelab.engine.errors import InputError
from stelab.engine.files import read_bounded
from stelab.engine.terminal import brief, visible

LEASE = 60.0  # seconds without a sign of life after which a lock of another host is void
NAME = "lock"
_MAX_BYTES = 2**12

log = logging.getLogger(__name__)


@contextmanager
def locked(
    folder: Path,
    *,
    on_loss: Callable[[], None],
    on_wait: Callable[[str], None] | None = None,
) -> Iterator[bool]:
    """Hold the lock of a run's folder; yield whether another process held it, and was waited for.

    The holder touches the lock file three times in `LEASE`. A lock whose process is dead is void
    at once on the same host; on another host, which cannot look for the process, after `LEASE`
    seconds without a touch, on the waiting process's own clock. `on_wait` is called with the
    folder's name before anything is waited for, and may raise something instead. `on_loss` is
    called from another thread when this process was taken for dead, as after a suspension of the
    machine, and another one holds the lock now.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"{folder} must be a run's folder, but a file is there: move it"
        ) from error
    _age(folder)
    lease = _lease(folder, on_loss)
    waited = False
    try:
        try:
            lease.acquire(timeout=0)
        except Timeout:
            waited = True
            if on_wait is not None:
                on_wait(folder.name)
            log.info("%s is being trained by %s: waiting for it", folder.name, holder(folder))
            lease.acquire(poll_interval=0.5)
    except LeaseSettingsMismatch as error:
        raise InputError(
            f"{folder / NAME} is not of this version of stelab: remove it if nobody trains the run"
        ) from error
    try:
        yield waited
    finally:
        lease.release()


@contextmanager
def locked_while_alive(folder: Path) -> Iterator[None]:
    """Show by the lock of a folder, which is removed afterwards, that this process is alive."""
    try:
        with locked(folder, on_loss=lambda: None):
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_locked(folder: Path) -> bool:
    """Return whether a living process holds the lock of a folder; InputError if it is no file."""
    age = _age(folder)
    if age is None or age > 2 * LEASE:  # of another host, whose processes cannot be looked for
        return False
    lease = _lease(folder, lambda: None)
    try:
        lease.acquire(timeout=0)
    except (Timeout, LeaseSettingsMismatch):
        return True
    lease.release()
    return False


def _age(folder: Path) -> float | None:
    """Return for how many seconds a lock was not touched; None where there is none."""
    path = folder / NAME
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} must be the file that a process makes which trains: remove it")
    return time.time() - status.st_mtime


def holder(folder: Path) -> str:
    """Return who holds the lock, e.g. ``"process 123 on node7"``."""
    try:
        lines = read_bounded(folder / NAME, limit=_MAX_BYTES).decode().splitlines()
        fields = dict(line.split("=", 1) for line in lines if "=" in line)
        return brief(visible(f"process {fields['pid']} on {fields['host'].partition('?')[0]}"))
    except (OSError, ValueError, KeyError):
        return "another process"


def _lease(folder: Path, on_loss: Callable[[], None]) -> SoftFileLease:
    return SoftFileLease(
        folder / NAME, lease_duration=LEASE, on_compromise=lambda _: on_loss(), thread_local=False
    )
