"""Signals that ask a run to stop: held back until its state is saved."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

from stelab.engine.errors import RunError

# SLURM, and submitit on it, announce the end of a job's time with SIGUSR1 or SIGUSR2.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Interrupted(BaseException):
    """A run stopped because the signal `number` asked for it, after its state was saved."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class LockLost(RunError):
    """Another process holds the lock of this run's folder: nothing may be written there."""


class Interrupts:
    """Note the first signal in `received`, which training reads between two steps.

    A context: when it ends, the handlers from before are back, and a signal that was noted goes to
    its own, as if it came now. A second Ctrl-C does not wait.

    Args:
        leader: Of several runs in threads of this process, which receives no signals for them.
    """

    def __init__(self, leader: Interrupts | None = None) -> None:
        self.leader = leader
        self._received: int | None = None
        self.lock_lost = False
        self.before: dict[int, Any] = {}

    @property
    def received(self) -> int | None:
        """Return the first signal."""
        return self.leader.received if self.leader is not None else self._received

    def install(self) -> None:
        """Take over the signals, also from Lightning, which would stop without saving its state."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            handler = signal.getsignal(number)
            # Ignored: a shell's background job. No handler of one's own: the signal kills, and
            # saving first is only useful where something would stop the run gently.
            fatal = handler is signal.SIG_DFL and number in (signal.SIGUSR1, signal.SIGUSR2)
            if handler is None or handler is signal.SIG_IGN or fatal or handler == self._receive:
                continue
            self.before.setdefault(number, handler)
            signal.signal(number, self._receive)

    def check(self) -> None:
        """Raise LockLost or Interrupted where one of them has happened."""
        if self.lock_lost:
            raise LockLost("another process holds the lock of this run now: this one stops")
        if self.received is not None:
            raise Interrupted(self.received)

    def __enter__(self) -> Interrupts:
        self.install()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self._received is not None and (error is None or isinstance(error, Interrupted)):
            handler = signal.getsignal(self._received)
            if not callable(handler):
                raise SystemExit(128 + self._received)
            handler(self._received, None)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = self._received or number
        _signal_children(number)

    def lose_lock(self) -> None:
        """Note, from another thread, that nothing may be written any more."""
        self.lock_lost = True
        _signal_children(signal.SIGKILL)

    def __getstate__(self) -> dict[str, Any]:
        # Handlers belong to a process: a child installs its own.
        return {"leader": None, "_received": None, "lock_lost": False, "before": {}}


def _signal_children(number: int) -> None:
    """Pass a signal to the processes that train for this one (trainer=ddp)."""
    for child in multiprocessing.active_children():
        if child.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(child.pid, number)
