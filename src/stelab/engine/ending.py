"""Ending a process."""

import atexit
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Run all that a process is for, which then ends with its exit code.

    After Python's own end the destructors of torch's libraries run. They touch 125 MiB and take up
    to a second of processor time, to free what the kernel frees anyway; so the last of Python's
    functions at exit does not return. It was registered first, so all others have run.
    """
    code = 1

    def end() -> None:
        try:
            logging.shutdown()
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        finally:
            os._exit(code)

    atexit.register(end)
    try:
        yield
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
