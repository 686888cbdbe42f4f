"""Memory that a step has freed is the next step's, not the kernel's."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Options of glibc's mallopt, see malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MIB = 2**20


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep what is freed on the CPU, where the C library is glibc; give it back at the end.

    By itself glibc returns the top of its heap, and every block of more than 32 MiB, as soon as
    they are free. A training step frees what the next one takes again, page by page, each zeroed by
    the kernel at its first touch: 12,000 pages a step of `model=tutorial`, a sixth of its time.

    glibc does not tell its settings. Afterwards they are those at which its own adjustment ends in
    a process that has freed large blocks.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # not glibc
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, 1024 * _MIB)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, 32 * _MIB)
        libc.mallopt(_TRIM_THRESHOLD, 64 * _MIB)
        libc.malloc_trim(0)
