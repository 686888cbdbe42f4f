"""The boundary to what strangers write: arguments, YAML files, the code that these name.

Until a command starts, only such input can go wrong. So whatever exception a library, or stelab
itself, raises until then reaches the user as what it is: a mistake, in one line.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from stelab.engine.errors import InputError, RunError
from stelab.engine.terminal import one_line


@contextmanager
def reading_input() -> Iterator[None]:
    """Raise an InputError for each exception inside, where input is read and nothing started."""
    try:
        yield
    except (InputError, RunError):
        raise
    except Exception as error:
        raise InputError(mistake(error)) from error


class Mistakes:
    """Gathers the InputErrors of many jobs before any of them starts; each is said once."""

    def __init__(self, jobs: int):
        self.jobs = jobs
        self._jobs_of: dict[str, list[str]] = {}  # by message

    @contextmanager
    def of(self, overrides: Sequence[str]) -> Iterator[None]:
        """Gather the mistake of the job with these overrides instead of raising it."""
        try:
            yield
        except InputError as error:
            self._jobs_of.setdefault(str(error), []).append(" ".join(overrides))

    def raise_any(self) -> None:
        """Raise one InputError that names all that was gathered, if anything was."""
        lines = list[str]()
        for message, jobs in self._jobs_of.items():
            where = f"  in {len(jobs)} of {self.jobs} jobs, the first: {jobs[0]}"
            lines += [message, where] if self.jobs > 1 else [message]
        if lines:
            raise InputError("\n".join(lines))


def mistake(error: Exception) -> str:
    """Describe in one line an exception that input has caused."""
    refusal = isinstance(error, ValueError) and str(error) and not error.__cause__
    return one_line(str(error)) if refusal else described(error)


def described(error: BaseException) -> str:
    """Describe an exception in one line, and say where to find more if that may not do."""
    text = one_line(str(error))
    after_colon = f": {text}" if text else ""
    if isinstance(error, RecursionError):
        return "something is nested too deeply, or contains itself"
    if isinstance(error, MemoryError):
        return f"there is not enough memory{after_colon}"
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
    return f"{type(error).__name__}{after_colon}{reason} (HYDRA_FULL_ERROR=1 shows the traceback)"
