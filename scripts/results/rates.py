"""Learning rates, chosen for each estimator by the validation split alone."""

from __future__ import annotations

import re
from pathlib import Path

from results.measured import Runs, read_runs

_RATE, _CRITERION = "optimizer.lr", "val/mse"


def choose(runs: Runs) -> dict[str, float]:
    """Return the rate of the least criterion of each estimator that was tried at several rates."""
    best = runs.table.sort_values([_CRITERION, _RATE]).groupby("names.estimator").first()
    return {str(name): float(rate) for name, rate in best[_RATE].items()}


def at_an_end(runs: Runs) -> list[str]:
    """Return the estimators whose chosen rate is the least or the largest that was tried."""
    tried = runs.table.groupby("names.estimator")[_RATE].agg(["min", "max"])
    return [name for name, rate in choose(runs).items() if rate in tuple(tried.loc[name])]


def with_rates(text: str, rates: dict[str, float], *, thresholds: str) -> str:
    """Return an experiment's YAML with these rates as the rows of its table, which ends it."""
    rows = [
        f"      - {{estimator: {name}, {_RATE}: {rate:g}, threshold.value: {thresholds}}}\n"
        f"      - {{estimator: {name}, {_RATE}: {rate:g}, threshold: learned}}\n"
        for name, rate in sorted(rates.items())
    ]
    head = re.match(r"(?s).*^    rows:.*?\n", text, flags=re.MULTILINE)
    assert head is not None
    return head[0] + "".join(rows)


def write_rates(root: Path) -> None:
    """Write the rates that ``which_estimator_lr`` chose into ``which_estimator.yaml``."""
    runs = read_runs(root / "results" / "which_estimator_lr")
    if runs is None:
        return
    path = root / "conf" / "experiment" / "which_estimator.yaml"
    text = with_rates(path.read_text(encoding="utf-8"), choose(runs), thresholds='"0,0.25,0.5"')
    path.write_text(text, encoding="utf-8")
