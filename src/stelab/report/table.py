"""Tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from stelab.errors import InputError
from stelab.report.console import console
from stelab.studies.record import Run, read_run
from stelab.studies.status import RunState


def print_runs(folders: Sequence[Path]) -> list[Run]:
    """Print one row a finished run, the lowest test error first; return them in that order."""
    finished = []
    for folder in folders:
        with suppress(InputError):
            run = read_run(folder)
            if run.status == "finished":
                finished.append(run)
    finished.sort(key=lambda run: run.metrics["test/mse"])
    if finished:
        console().print(_table(finished))
    return finished


def print_failures(states: Sequence[RunState]) -> None:
    """Print one line a run that is not finished, with the reason."""
    for state in states:
        reason = f": {state.note}" if state.note else ""
        console().print(f"{state.name}  {state.state}{reason}", style="red", highlight=False)


def _table(runs: list[Run]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("estimator", "threshold", "seed", "test/mse", "test/loss", "dead bits", "clipped"):
        numeric = name not in ("estimator", "threshold")
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for run in runs:
        config, metrics = run.config, run.metrics
        value = config["threshold"].get("value")
        table.add_row(
            config["names"]["estimator"],
            config["names"]["threshold"] + (f" {value:g}" if value is not None else ""),
            str(config["seed"]),
            f"{metrics['test/mse']:.5f}",
            f"{metrics['test/loss']:.5g}",
            f"{metrics['code/dead_bits']:.1%}",
            # Multi-evaluation estimators have no gradient at the bits that could be clipped.
            f"{clipped:.1%}"
            if (clipped := metrics.get("estimator/clip_fraction")) is not None
            else "-",
        )
    return table
