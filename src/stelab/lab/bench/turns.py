"""Measurements in turns, each in a process of its own, so that what disturbs one disturbs all."""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from stelab.engine.errors import InputError, RunError
from stelab.engine.terminal import one_line

Values = dict[str, float]  # what was measured, by names with the unit


@dataclass(frozen=True)
class Case:
    """One thing to measure, in turns with all others of its part and group."""

    part: str
    group: str
    name: str
    measure: Callable[[Path], Values]  # given an empty folder


@dataclass(frozen=True)
class Sample:
    """One measurement."""

    part: str
    group: str
    name: str
    repetition: int  # samples of one repetition were made next to each other
    values: Values


def take_turns(cases: Iterable[Case], *, repetitions: int) -> Iterator[Sample]:
    """Measure group after group: its cases in turns, there and back, `repetitions` times."""
    for _, group in groupby(cases, key=lambda case: (case.part, case.group)):
        turn = list(group)
        for i in range(repetitions):
            for case in turn if i % 2 == 0 else turn[::-1]:
                with TemporaryDirectory(prefix="stelab-bench-") as folder:
                    values = case.measure(Path(folder))
                yield Sample(case.part, case.group, case.name, i, values)


def run_python(*arguments: str) -> tuple[Values, str]:
    """Run this Python; return ``seconds``, ``cpu_s``, ``peak_mib`` (of a process), and its stdout.

    Raises:
        InputError: It ended with exit code 2, which is bad input in all that is run here.
        RunError: It ended with another one.
    """
    alien = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT")  # who is measured says it
    environment = {name: value for name, value in os.environ.items() if name not in alien}
    with TemporaryFile() as out, TemporaryFile() as err:
        started = time.perf_counter()
        command = [sys.executable, *arguments]
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    if process.returncode:
        last = (texts[1].strip().splitlines() or ["no reason told"])[-1].removeprefix("stelab: ")
        kind = InputError if process.returncode == 2 else RunError
        code = process.returncode
        raise kind(f"{one_line(' '.join(arguments), 300)} ended with code {code}: {last}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu_s": cpu, "peak_mib": peak_mib(usage)}, texts[0]


def peak_mib(usage: resource.struct_rusage) -> float:
    """Return the most memory that a process has had, in MiB."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**20


def values_of(samples: Sequence[Sample], group: str, name: str, key: str) -> list[float]:
    """Return what was measured of a case, by repetition; empty where it lacks the key."""
    return [
        s.values[key] for s in samples if (s.group, s.name) == (group, name) and key in s.values
    ]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratio of each repetition that both have."""
    return [a / b for a, b in zip(ours, theirs, strict=False)]


def spread(values: Sequence[float], digits: int = 0, *, times: float = 1, unit: str = "") -> str:
    """Write the median, and the least and the largest value in brackets where there are several."""
    if not values:
        return "–"
    least, median, most = (
        f"{times * value:,.{digits}f}"
        for value in (min(values), statistics.median(values), max(values))
    )
    return f"{median}{unit}" + (f" ({least} to {most})" if len(values) > 1 else "")
