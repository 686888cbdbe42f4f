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
SERIAL, JOBLIB, STACKED = "serial", "joblib", "stacked"
IMAGES = 3500  # of each split


def about(cfg: Any) -> str:
    """Say what the table shows."""
    return f"""\
Whole sweeps of {cfg.jobs} seeds, each an epoch of at most {IMAGES:,} images. *serial*: one job
after the other, with {"all cores" if cfg.threads is None else f"{max(cfg.threads)} threads"};
*joblib*: as many at once as there are cores, with one each; *stacked*: all as one program, with the
threads of serial."""


def cases(cfg: Any, run: Run) -> Iterator[Case]:
    """Yield what is measured of each setting."""
    most = max(cfg.threads or [jobs_at_once(1)])
    for setting in cfg.settings:
        short = ("trainer.max_epochs=1", "++trainer.max_steps=-1", f"data.limit={IMAGES}")
        sweep = ("-m", *words_of(setting), f"seed=range({cfg.jobs})", *short)
        for launcher, threads in ((SERIAL, most), (JOBLIB, 1), (STACKED, most)):
            overrides = (*sweep, f"threads={threads}", f"hydra/launcher={launcher}")
            yield Case("launchers", setting, launcher, partial(_sweep, cfg, overrides))


def _sweep(cfg: Any, overrides: Sequence[str], folder: Path) -> Values:
    values, _ = run_python(*train(cfg, folder, *overrides))
    return {**values, "jobs_per_hour": 3600 * cfg.jobs / values["seconds"]}


def tables(samples: Sequence[Sample]) -> Iterator[str]:
    """Yield a row for each setting."""
    yield "| jobs/hour | serial | joblib | stacked | joblib beside serial | stacked beside serial |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for setting in dict.fromkeys(sample.group for sample in samples):
        serial, *others = (
            values_of(samples, setting, name, "jobs_per_hour") for name in (SERIAL, JOBLIB, STACKED)
        )
        beside = (spread(ratios(other, serial), 2, unit="×") for other in others)
        cells = (f"`{setting}`", *map(spread, (serial, *others)), *beside)
        yield f"| {' | '.join(cells)} |"
