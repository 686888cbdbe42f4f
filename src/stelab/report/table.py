"""Tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from stelab.errors import InputError
from stelab.report.console import console
from stelab.studies.record import Run, read_run


def print_runs(folders: Sequence[Path]) -> list[Run]:
    """Print one row a run, the lowest test error first; return the finished runs in that order.

    Runs that failed or never started are listed below, with the reason.
    """
    finished, others = [], []
    for folder in dict.fromkeys(folders):
        try:
            run = read_run(folder)
        except InputError:
            others.append((folder.name, "not started"))
            continue
        if run.status == "finished":
            finished.append(run)
        else:
            reason = (run.record["error"] or "").strip().splitlines()
            others.append((run.name, f"{run.status}: {reason[-1]}" if reason else run.status))
    finished.sort(key=lambda run: run.metrics["test/mse"])
    if finished:
        console().print(_table(finished))
    for name, reason in others:
        console().print(f"{name}  {reason}", style="red", highlight=False)
    return finished


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
