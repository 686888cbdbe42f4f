"""What our runs gave, and whether that is what was published."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from results.published import Published
from stelab.engine.archives import studies_in
from stelab.engine.comparison.statistics import Summary, summarize
from stelab.engine.studies import load
from stelab.engine.studies.record import read_run

ARCHIVE = "runs.tar.xz"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Runs:
    """The finished runs of an archive.

    Attributes:
        table: `Study.runs`, and all keys of their configurations, by their dotted names.
        own: The names of the former.
        curves: `Study.curves`.
    """

    table: pd.DataFrame
    own: list[str]
    curves: pd.DataFrame


@dataclass(frozen=True)
class Verdict:
    """A published number beside ours.

    Attributes:
        ours: Over seeds.
        difference: Ours less the published one.
        low: Lower end of its interval, by Welch's t; NaN where a spread is not known.
        high: Its upper end.
        word: ``"reproduced"``, ``"differs"``, ``"not run"``, or ``"measured"`` where no published
            number could be verified.
    """

    ours: Summary
    difference: float
    low: float
    high: float
    word: str


def read_runs(folder: Path) -> Runs | None:
    """Read the archive in a folder of ``results/``; None where nothing is finished."""
    archive = folder / ARCHIVE
    if not archive.exists() or (finished := (study := load(archive)).finished).empty:
        return None
    paths = {path.name: path for path in studies_in(archive)}
    configs = pd.DataFrame(
        [
            flat(read_run(paths[name] / run).config)
            for name, run in zip(finished["study"], finished["run"], strict=True)
        ],
        index=finished.index,
    )
    new = configs[[name for name in configs if name not in finished]]
    return Runs(pd.concat([finished, new], axis=1), [*finished], study.curves)


def flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a nested table by their dotted names."""
    values: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = value
    return values


def judge(published: Published, runs: Runs | None) -> Verdict:
    """Compare a published number with ours."""
    ours = summarize(_values(published, runs), confidence=CONFIDENCE, interval="t")
    if ours.n == 0:
        return Verdict(ours, math.nan, math.nan, math.nan, "not run")
    if math.isnan(published.value):
        return Verdict(ours, math.nan, math.nan, math.nan, "measured")
    difference = ours.mean - published.value
    half = _half_interval(published, ours)
    word = "reproduced" if abs(difference) <= published.within else "differs"
    return Verdict(ours, difference, difference - half, difference + half, word)


def of_setting(table: pd.DataFrame, setting: Mapping[str, str | float]) -> pd.DataFrame:
    """Return the runs of a setting, in which a group's name stands for the chosen option."""
    chosen = pd.Series(True, index=table.index)
    for key, value in setting.items():
        name = f"names.{key}" if f"names.{key}" in table else key
        chosen &= (table[name] == value) if name in table else False
    return table[chosen]


def _values(published: Published, runs: Runs | None) -> np.ndarray[Any, np.dtype[np.float64]]:
    if runs is None:
        return np.empty(0)
    table = of_setting(runs.table, published.setting)
    if published.best_of is not None:
        means = table.groupby(published.best_of)[published.metric].mean()
        table = table[table[published.best_of] == means.idxmin()] if len(means) else table
    if published.seed is not None:
        table = table[table["seed"] == published.seed]
    if published.epoch is None:
        return table[published.metric].dropna().to_numpy(float)
    curves = runs.curves[runs.curves["epoch"] == published.epoch]
    return curves[curves["run"].isin(table["run"])][published.metric].dropna().to_numpy(float)


def _half_interval(published: Published, ours: Summary) -> float:
    """Return half the width of Welch's interval of the difference of two means."""
    if ours.n < 2 or published.n < 2 or math.isnan(published.sd):
        return math.nan
    a, b = ours.std**2 / ours.n, published.sd**2 / published.n
    if a + b == 0:
        return 0.0
    freedom = (a + b) ** 2 / (a**2 / (ours.n - 1) + b**2 / (published.n - 1))
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * math.sqrt(a + b))
