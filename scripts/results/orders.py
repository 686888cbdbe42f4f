"""Published orders: what was found to be less than what, and whether ours is in that order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from results.measured import CONFIDENCE, Runs, of_setting
from stelab.engine.comparison.statistics import Difference, differ


@dataclass(frozen=True)
class Order:
    """An order of numbers of the same runs, or of runs of other settings.

    Attributes:
        title: What is in order, and who found it.
        setting: Of all runs.
        least_first: By name, what tells each from the others: its ``metric``, keys of its setting.
    """

    title: str
    setting: dict[str, str | float]
    least_first: dict[str, dict[str, str | float]]

    def steps(self, runs: Runs | None) -> Iterator[tuple[str, str, Difference]]:
        """Yield neighbours, and by how much the second is above the first, over paired seeds."""
        for first, second in pairwise(self.least_first):
            both = pd.concat([self._by_seed(name, runs) for name in (first, second)], axis=1)
            low, high = both.dropna().to_numpy(float).T
            yield first, second, differ(high, low, confidence=CONFIDENCE, interval="t")

    def _by_seed(self, name: str, runs: Runs | None) -> pd.Series[float]:
        own = dict(self.least_first[name])
        metric = str(own.pop("metric"))
        if runs is None or metric not in runs.table:
            return pd.Series(dtype=float)
        table = of_setting(runs.table, {**self.setting, **own})
        if (twice := table["seed"].duplicated()).any():
            seeds = sorted({*table["seed"][twice].tolist()})
            raise ValueError(f"{name} of {self.title!r} has several runs of the seeds {seeds}")
        return table.set_index("seed")[metric]


def word(difference: Difference) -> str:
    """Return ``"in order"``, ``"the other way round"``, ``"undecided"`` or ``"not run"``."""
    if difference.pairs == 0:
        return "not run"
    if difference.low > 0:
        return "in order"
    return "the other way round" if difference.high < 0 else "undecided"


def orders_table(orders: Sequence[Order], runs: Runs | None, *, digits: int) -> str:
    """Return orders as Markdown; nothing where there are none."""
    blocks = []
    for order in orders:
        lines = [f"{order.title}:\n", "| less | more | difference | n |  |", "|" + " --- |" * 5]
        for first, second, d in order.steps(runs):
            ends = "" if np.isnan(d.low) else f" [{d.low:+.{digits}f}, {d.high:+.{digits}f}]"
            mean = f"{d.mean:+.{digits}f}{ends}" if d.pairs else "–"
            lines.append(f"| {first} | {second} | {mean} | {d.pairs} | {word(d)} |")
        blocks.append("\n".join([*lines, ""]))
    return "\n".join(blocks)
