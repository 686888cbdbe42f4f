"""One process trains a run: the lock in its folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import SoftFileLease, Timeout

from stelab.terminal import visible

LEASE = 60.0
"""Seconds without a sign of life after which a lock of another host is void."""

NAME = "lock"

log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path, *, on_loss: Callable[[], None]) -> Iterator[bool]:
    """Hold the lock of a run's folder; wait, and say so, while another process holds it.

    The holder touches the lock file three times in `LEASE`. A lock whose process is dead is void
    at once on the same host; on another host, which cannot look for the process, after `LEASE`
    seconds without a touch, on the waiting process's own clock.

    Args:
        folder: The run's folder; made where it does not exist.
        on_loss: Called from another thread when this process was taken for dead, as after a
            suspension of the machine, and another one holds the lock now.

    Yields:
        Whether another process held the lock before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lease = _lease(folder, on_loss)
    waited = False
    try:
        lease.acquire(timeout=0)
    except Timeout:
        waited = True
        log.info("%s is being trained by %s: waiting for it", folder.name, holder(folder))
        lease.acquire(poll_interval=0.5)
    try:
        yield waited
    finally:
        lease.release()


def is_locked(folder: Path) -> bool:
    """Tell whether a living process holds the lock of a run's folder."""
    try:
        untouched = time.time() - (folder / NAME).stat().st_mtime
    except FileNotFoundError:
        return False
    if untouched > 2 * LEASE:  # of another host, whose processes cannot be looked for
        return False
    lease = _lease(folder, lambda: None)
    try:
        lease.acquire(timeout=0)
    except Timeout:
        return True
    lease.release()
    return False


def holder(folder: Path) -> str:
    """Return e.g. ``"process 123 on node7"``, who holds the lock."""
    try:
        lines = (folder / NAME).read_text(encoding="utf-8").splitlines()
        fields = dict(line.split("=", 1) for line in lines if "=" in line)
        return visible(f"process {fields['pid']} on {fields['host'].partition('?')[0]}")
    except (OSError, KeyError):
        return "another process"


def _lease(folder: Path, on_loss: Callable[[], None]) -> SoftFileLease:
    return SoftFileLease(
        folder / NAME,
        lease_duration=LEASE,
        on_compromise=lambda _: on_loss(),
        thread_local=False,
    )
