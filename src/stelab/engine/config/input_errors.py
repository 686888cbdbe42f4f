"""The boundary to what strangers write: arguments, YAML files, the code that these name.

Until a command starts, nothing can go wrong but by such input. Whatever exception a library, or
stelab itself, raises then is told as what it is to the user: a mistake, in one line.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from stelab.engine.errors import InputError, RunError
from stelab.engine.terminal import one_line


@contextmanager
def reading_input() -> Iterator[None]:
    """Inside, input is read and nothing has started: each exception is an InputError.

    Raises:
        InputError: Something failed.
    """
    try:
        yield
    except (InputError, RunError):
        raise
    except Exception as error:
        raise InputError(mistake(error)) from error


def mistake(error: Exception) -> str:
    """Say in one line what an exception says that input has caused."""
    refusal = isinstance(error, ValueError) and str(error) and not error.__cause__
    return one_line(str(error)) if refusal else told(error)


def told(error: BaseException) -> str:
    """Say in one line what an exception says, and where there is more where that may not do."""
    if isinstance(error, RecursionError):
        return "something is nested too deeply, or contains itself"
    if isinstance(error, MemoryError):
        return f"there is not enough memory{_after_colon(error)}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" for {error.filename}" if error.filename else ""
        return f"there is no space left{where}: free some, and run it again"
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    if isinstance(error, HydraException | OmegaConfBaseException | Warning):
        causes = dict.fromkeys(filter(None, (str(error), str(error.__cause__ or ""))))
        return one_line(": ".join(causes) or type(error).__name__)
    cause = error.__cause__
    reason = f": {one_line(str(cause))}" if cause and str(cause) not in str(error) else ""
    text = f"{type(error).__name__}{_after_colon(error)}{reason}"
    return f"{text} (HYDRA_FULL_ERROR=1 shows the traceback)"


def _after_colon(error: BaseException) -> str:
    return f": {text}" if (text := one_line(str(error))) else ""
