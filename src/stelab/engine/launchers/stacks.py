"""Attempts that train as one program, as far as the project can stack them."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import takewhile
from pkgutil import resolve_name

from stelab.engine.launchers.job import Attempt, Outcome
from stelab.engine.project import project

log = logging.getLogger(__name__)


class Stacks:
    """Runs attempts of one kind together, in this process; the others as `InThisProcess` does.

    Args:
        size: The most that run together.
    """

    interval = patience = 0.0

    def __init__(self, size: int):
        self.slots = size

    def start(self, attempts: Sequence[Attempt]) -> list[Future[Outcome]]:
        """Run the first attempt, and those behind it that are of its kind, to their end."""
        kinds, lonely = resolve_name(project().kind), resolve_name(project().lonely)
        first = attempts[0]
        if reason := lonely(first.cfg):
            log.info("not stacked: %s", reason)
            return [_ended(first())]
        kind = kinds(first.cfg)
        together = [*takewhile(lambda a: not lonely(a.cfg) and kinds(a.cfg) == kind, attempts)]
        if len(together) == 1:
            log.info("not stacked: no job beside it differs from it in numbers only")
            return [_ended(first())]
        outcomes = resolve_name(project().train_stacked)([(a.cfg, a) for a in together])
        pairs = zip(together, outcomes, strict=True)
        return [_ended(attempt() if outcome is None else outcome) for attempt, outcome in pairs]

    def poll(self) -> None:
        """Do nothing: all attempts have ended."""

    stop = poll


def _ended(outcome: Outcome) -> Future[Outcome]:
    future = Future[Outcome]()
    future.set_result(outcome)
    return future
