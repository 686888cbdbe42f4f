"""Learning rates, chosen for each estimator by the validation split alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from results.measured import Runs, read_runs

_RATE = "optimizer.lr"
# By the experiment that a rate is for: what chooses it, the lower the better, and other settings.
CRITERIA = {
    "which_estimator": ("val/mse", 1, [', threshold.value: "0,0.25,0.5"', ", threshold: learned"]),
    "which_estimator_small": ("val/mse", 1, [', threshold.value: "0,0.5"']),
    "which_estimator_classify": ("val/accuracy", -1, [""]),
    "which_estimator_vae": ("val/loss", 1, [""]),
}
# Of estimators that draw their bits if they are told to, where all others do.
_DRAWN = {("which_estimator_vae", "slope_annealed"): ", estimator.stochastic: true"}


def choose(runs: Runs, criterion: str, sign: int = 1) -> dict[str, float]:
    """Return the rate of the least criterion of each estimator that was tried at several rates.

    With `sign` -1 it is the largest.
    """
    judged = runs.table.assign(judged=sign * runs.table[criterion])
    best = judged.sort_values(["judged", _RATE]).groupby("names.estimator").first()
    return {str(name): float(rate) for name, rate in best[_RATE].items()}


def at_an_end(runs: Runs, criterion: str, sign: int = 1) -> list[str]:
    """Return the estimators whose chosen rate is the least or the largest that was tried."""
    tried, chosen = runs.table.groupby("names.estimator")[_RATE], choose(runs, criterion, sign)
    ends = tried.agg(["min", "max"])
    return [name for name, rate in chosen.items() if rate in tuple(ends.loc[name])]


def with_rates(name: str, text: str, rates: dict[str, float], *, others: Sequence[str]) -> str:
    """Return an experiment's YAML with these rates as the rows of its table, which ends it."""
    rows = [
        f"      - {{estimator: {estimator}{_DRAWN.get((name, estimator), '')}, "
        f"{_RATE}: {rate:g}{other}}}\n"
        for estimator, rate in sorted(rates.items())
        for other in others
    ]
    head = re.match(r"(?s).*^    rows:.*?\n", text, flags=re.MULTILINE)
    assert head is not None
    return head[0] + "".join(rows)


def write_rates(root: Path) -> None:
    """Write the rates that ``NAME_lr`` chose into ``NAME.yaml``, for each of `CRITERIA`."""
    for name, (criterion, sign, others) in CRITERIA.items():
        runs = read_runs(root / "results" / f"{name}_lr")
        if runs is not None:
            path = root / "conf" / "experiment" / f"{name}.yaml"
            rates = choose(runs, criterion, sign)
            text = with_rates(name, path.read_text(encoding="utf-8"), rates, others=others)
            path.write_text(text, encoding="utf-8")
