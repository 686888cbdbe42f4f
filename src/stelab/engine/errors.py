"""The exceptions whose message says all: the command line prints no traceback for them."""

from stelab.engine.terminal import brief


class InputError(ValueError):
    """Bad input, exit code 2: the message names the invariant, what came, and the fix."""


class RunError(RuntimeError):
    """A run failed, exit code 1: the message names where and why."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, shortened to be part of another."""
    text = getattr(error, "strerror", None) or str(error)
    (line, *_) = text.strip().splitlines() or [type(error).__name__]
    return brief(line)
