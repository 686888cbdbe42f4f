"""How long tests wait for other processes: until it happens, on whatever machine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from zygote import Fork

PATIENCE = 1800.0  # seconds; ends only what hangs, beside any other work


def wait_until(
    true: Callable[[], bool],
    *,
    process: subprocess.Popen[str] | Fork | None = None,
    every: float = 0.05,
) -> None:
    """Wait for something to become true, while a process lives."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(every)
