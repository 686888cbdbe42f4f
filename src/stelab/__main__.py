"""The program ``stelab``, also as ``python -m stelab``."""

import os

from stelab.apps.main import main
from stelab.engine.ending import ending_at_once


def program() -> None:
    """Run what was typed, see `stelab.apps.main.main`, and end the process.

    Threads of torch that wait for each other spin for microseconds, not for libgomp's milliseconds:
    where another process has a core, the one that spins on the other holds it up for a whole time
    slice. With 2 threads `model=mlp` trained at 0.15 times the speed of one thread on 2 busy cores,
    so at 0.68 times; on 2 free ones at 1.44 and 1.47 times (without any spinning at 0.82).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # read when torch is imported
    with ending_at_once():
        main()


if __name__ == "__main__":
    program()
