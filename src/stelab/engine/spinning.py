"""How long threads of torch that wait for each other stay awake."""

import os
from pathlib import Path

LOAD = Path("/proc/loadavg")
_MOST = 8  # threads of a run, unless it says otherwise
_SHORT = "1000"  # turns of its loop, some ten microseconds


def spin_briefly_beside_others() -> None:
    """Let them spin for microseconds, not for libgomp's milliseconds, where cores are scarce.

    That is where fewer are free than a run takes: a thread that spins on one of them holds the
    process on the other up for a whole time slice, which halves what a run of two threads makes on
    2 cores, or worse. With nothing beside it a run is faster for spinning, by 4 % to a third: to
    wake a thread takes time. ``GOMP_SPINCOUNT=1000 stelab train model=mlp threads=2``, and 300000,
    show either.

    libgomp reads it when torch is imported. ``GOMP_SPINCOUNT`` and ``OMP_WAIT_POLICY`` of the user
    are left alone.
    """
    if "OMP_WAIT_POLICY" not in os.environ and are_scarce(runnable(), os.cpu_count() or 1):
        os.environ.setdefault("GOMP_SPINCOUNT", _SHORT)


def are_scarce(running: int, processors: int) -> bool:
    """Return whether fewer processors are left than a run takes, itself among what is running."""
    return running - 1 > processors - min(processors, _MOST)


def runnable() -> int:
    """Return how many threads on this machine run now or could, this one among them.

    Where the system does not tell, 1: libgomp is the threads' library of Linux.
    """
    try:
        return int(LOAD.read_text().split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return 1
