"""Text on its way to a terminal, a file or a pipe: shown, never obeyed, and no reason to stop."""

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO, cast


def visible(text: str) -> str:
    """Escape, as in a Python literal, what a terminal would obey or hide, or cannot encode."""
    return "".join(
        c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def visible_path(path: object) -> str:
    """Escape a path, which may have line breaks, as `visible` does a text."""
    return visible(str(path)).replace("\n", "\\n")


def one_line(text: str, most: int = 1000) -> str:
    """Join the lines of a text, and leave out the middle of one that nobody would read."""
    return shortened(" ".join(text.split()), most)


def shortened(line: str, most: int = 1000) -> str:
    """Leave out the middle of a line of more than `most` characters."""
    return line if len(line) <= most else f"{line[: most * 7 // 10]} ... {line[-(most // 5) :]}"


def brief(value: object) -> str:
    """Write a value in one line that is short enough for a message."""
    return one_line(str(value), 300)


@contextmanager
def robust_streams() -> Iterator[None]:
    """Give this process a stdout and a stderr that take any text; none fails when it is closed.

    A stream that was closed before this process began refuses to be written to; else its number
    would be that of the next file opened. What a logger cannot write is lost without a traceback.
    """
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # a descriptor of its own: no other file gets it
            if (null := os.open(os.devnull, os.O_RDONLY)) != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    before, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        yield
    finally:
        logging.raiseExceptions = before
        for stream in (sys.stdout, sys.stderr):
            _let_close(stream)


def _let_close(stream: TextIO) -> None:
    """Flush a stream; one that cannot be is silenced, for Python flushes it again at exit."""
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):  # a stand-in has no descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep long work going when its output cannot be written any more; raise the OSError after."""
    output = _Output(sys.stdout)
    with redirect_stdout(cast(TextIO, output)):
        yield
    if output.error is not None:
        raise output.error


class _Output:
    """A stream that is silenced when it first fails, and keeps the error."""

    def __init__(self, stream: TextIO):
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        return self._try(self.stream.write, text) or 0

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, operation: Callable[..., Any], *arguments: str) -> Any:
        try:
            return operation(*arguments)
        except OSError as error:
            error.filename = "stdout"
            self.error = self.error or error
            _let_close(self.stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
