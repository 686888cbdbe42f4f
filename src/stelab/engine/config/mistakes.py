"""The mistakes of a whole sweep, before any of its jobs starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stelab.engine.errors import InputError


class Mistakes:
    """Gathers the InputErrors of many jobs; each is said once.

    Args:
        jobs: How many jobs there are.
    """

    def __init__(self, jobs: int):
        self.jobs = jobs
        self.found: dict[str, list[str]] = {}  # message: the jobs that have it

    @contextmanager
    def of(self, overrides: Sequence[str]) -> Iterator[None]:
        """Gather the mistake of the job with these overrides instead of raising it."""
        try:
            yield
        except InputError as error:
            self.found.setdefault(str(error), []).append(" ".join(overrides))

    def raise_any(self) -> None:
        """Raise one InputError that names all that was gathered, if anything was."""
        if self.found:
            raise InputError("\n".join(map(self._line, self.found)))

    def _line(self, message: str) -> str:
        where = self.found[message]
        if self.jobs == 1:
            return message
        return f"{message}\n  in {len(where)} of {self.jobs} jobs, the first: {where[0]}"
