"""The program ``stelab``, also as ``python -m stelab``."""

import atexit
import logging
import os
import sys

from stelab.apps.main import main


def program() -> None:
    """Run what was typed, see `stelab.apps.main.main`, and end the process.

    After Python's own end the destructors of torch's libraries run. They touch 125 MiB and take up
    to a second of processor time, to free what the kernel frees anyway; so the last of Python's
    functions at exit does not return. It was registered first, so all others have run.

    Threads of torch that wait for each other spin for microseconds, not for libgomp's milliseconds:
    where another process has a core, the one that spins on the other holds it up for a whole time
    slice. With 2 threads `model=mlp` trained at 0.15 times the speed of one thread on 2 busy cores,
    so at 0.68 times; on 2 free ones at 1.44 and 1.47 times (without any spinning at 0.82).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # read when torch is imported
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
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)


if __name__ == "__main__":
    program()
