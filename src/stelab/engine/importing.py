"""Importing what is large."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import without the garbage collector, in whose hands torch and Lightning take a third longer.

    It would look, again and again, through ever more objects, and what modules define stays.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # a host that has frozen its own objects keeps it so
            gc.freeze()
            gc.unfreeze()  # all that is there counts as old: it is not looked through at once
        gc.enable()
