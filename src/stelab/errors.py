"""The exceptions whose message says all: the command line prints no traceback for them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Bad input: the message names the invariant, what came, and the fix.

    The command line prints the message alone and exits with code 2.
    """


class RunError(RuntimeError):
    """A run failed: the message names where and why.

    The command line prints the message alone and exits with code 1.
    """


@contextmanager
def told() -> Iterator[None]:
    """End with the message where one of them is raised: Hydra would print its traceback."""
    try:
        yield
    except (InputError, RunError) as error:
        print(f"stelab: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, InputError) else 1) from error


def brief(error: BaseException) -> str:
    """Return the first line of an error's message, not too long, to be part of another."""
    text = getattr(error, "strerror", None) or str(error)
    (line, *_) = text.strip().splitlines() or [type(error).__name__]
    return line[:200]
