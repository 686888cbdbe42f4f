"""Where jobs run: what a launcher needs to know of it, and the simplest case."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from stelab.engine.launchers.job import Attempt, Outcome


class Started(Protocol):
    """A job that an executor has taken."""

    def done(self) -> bool:
        """Tell whether it has ended, as far as the last look showed."""

    def result(self) -> Outcome:
        """Return how it ended."""


class Executor(Protocol):
    """Takes jobs and runs them.

    Attributes:
        interval: Seconds between two looks at the jobs, where some end.
        patience: The same, where none has ended for long.
    """

    interval: float
    patience: float

    @property
    def slots(self) -> int | None:
        """How many jobs it takes at once; None: all."""

    def start(self, attempts: Sequence[Attempt]) -> Sequence[Started]:
        """Take jobs, no more than there are free slots.

        Returns:
            Those that were taken, in their order: maybe not all.

        Raises:
            InputError: None ever will be.
        """

    def look(self) -> None:
        """Find out which jobs have ended, at once for all: `Started.done` tells."""

    def stop(self) -> None:
        """Let jobs under way save their state, wait for them, and end all workers."""


class InThisProcess:
    """Runs a job when it is given one; a signal is handled by the run itself."""

    slots = 1
    interval = patience = 0.0

    def start(self, attempts: Sequence[Attempt]) -> list[Started]:
        """Run jobs."""
        return [_ended(attempt()) for attempt in attempts]

    def look(self) -> None:
        """Do nothing: all jobs have ended."""

    def stop(self) -> None:
        """Do nothing: no job is under way."""


def _ended(outcome: Outcome) -> Future[Outcome]:
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return future
