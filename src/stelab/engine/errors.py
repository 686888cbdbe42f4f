"""The exceptions whose message says all: the command line prints no traceback for them."""

from stelab.engine.terminal import brief


class InputError(ValueError):
    """Bad input: the message names the invariant, what came, and the fix.

    The command line prints the message alone and exits with code 2.
    """


class RunError(RuntimeError):
    """A run failed: the message names where and why.

    The command line prints the message alone and exits with code 1.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, not too long, to be part of another."""
    text = getattr(error, "strerror", None) or str(error)
    (line, *_) = text.strip().splitlines() or [type(error).__name__]
    return brief(line)
