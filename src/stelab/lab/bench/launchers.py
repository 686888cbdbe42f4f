"""How many short jobs an hour has: in one process with all cores, and side by side."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stelab.engine.launchers.processes import jobs_at_once
from stelab.engine.studies import Run
from stelab.lab.bench.commands import train, words_of
from stelab.lab.bench.turns import Case, Sample, Values, ratios, run_python, spread, values_of

TITLE = "Jobs by launcher"
ALONE, SERIAL, JOBLIB, STACKED = "alone", "serial", "joblib", "stacked"
SHORT = "trainer.max_epochs=1 ++trainer.max_steps=-1 data.limit=3500"  # a job, but for its setting


def about(cfg: Any) -> str:
    """Say what the table shows."""
    threads = "all cores" if cfg.threads is None else f"{max(cfg.threads)} threads"
    return f"""\
Whole sweeps of {cfg.jobs} seeds, each with `{SHORT}` unless the setting says otherwise. *serial*:
one job after the other, with {threads}; *joblib*: as many at once as there are cores, with one
each; *stacked*: all as one program, with the threads of serial; *alone*: a sweep of one of them.
*Cores busy*: how many were at work, in the mean over a sweep, its start and end included: where one
job after the other keeps them all busy, nothing is to be gained side by side."""


def cases(cfg: Any, run: Run) -> Iterator[Case]:
    """Yield what is measured of each setting."""
    most = max(cfg.threads or [jobs_at_once(1)])
    for setting in cfg.settings:
        for name in cfg.launchers:
            jobs = 1 if name == ALONE else cfg.jobs
            launcher = SERIAL if name == ALONE else name
            threads = 1 if name == JOBLIB else most
            own = f"seed=range({jobs}) threads={threads} hydra/launcher={launcher}"
            # A stack may have all of them.
            size = f"hydra.launcher.size={jobs}" if name == STACKED else ""
            overrides = ("-m", *words_of(SHORT, setting, own, size))
            yield Case("launchers", setting, name, partial(_sweep, cfg, overrides, jobs))


def _sweep(cfg: Any, overrides: Sequence[str], jobs: int, folder: Path) -> Values:
    values, _ = run_python(*train(cfg, folder, *overrides))
    return {**values, "jobs_per_hour": 3600 * jobs / values["seconds"]}


def tables(samples: Sequence[Sample]) -> Iterator[str]:
    """Yield a row for each setting."""
    names = list(dict.fromkeys(sample.name for sample in samples))
    compared = [
        (name, other, key)
        for other, key in ((SERIAL, "jobs_per_hour"), (ALONE, "seconds"))
        for name in names
        if other in names and name not in (SERIAL, ALONE)
    ]
    titles = [
        f"{name} beside {other}{', time' * (key == 'seconds')}" for name, other, key in compared
    ]
    busy = [f"{name}, cores busy" for name in names]
    columns = ["jobs/hour", *names, *titles, *busy]
    yield f"| {' | '.join(columns)} |"
    yield "| --- " * len(columns) + "|"
    for setting in dict.fromkeys(sample.group for sample in samples):
        of = partial(values_of, samples, setting)
        cells = [f"`{setting}`", *(spread(of(name, "jobs_per_hour")) for name in names)]
        for name, other, key in compared:
            cells.append(spread(ratios(of(name, key), of(other, key)), 2, unit="×"))
        for name in names:
            cells.append(spread(ratios(of(name, "cpu_s"), of(name, "seconds")), 2))
        yield f"| {' | '.join(cells)} |"
