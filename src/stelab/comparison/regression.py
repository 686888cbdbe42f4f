"""Has a study become worse than an older one?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stelab.comparison.compare import Better, Comparison
from stelab.comparison.groups import Group, group_runs, paired
from stelab.comparison.statistics import Difference, differ
from stelab.errors import InputError

JUDGED = ("worse", "better", "equal", "no difference shown", "failed")


@dataclass(frozen=True)
class Regression:
    """A study against an older one, setting by setting.

    Attributes:
        table: One row a setting and metric: `group`, the settings, `metric`, `pairs`, `old`,
            `new`, `difference` (new - old, paired by replicate), `difference_low`,
            `difference_high`, `p`, `verdict`. The verdict is ``"worse"`` or ``"better"`` where
            the interval of the difference leaves out 0 (two pairs that differ by the same amount
            have one of no width), ``"equal"`` where no pair differs at all, ``"failed"`` where a
            run of the new study failed, else ``"no difference shown"`` or why it cannot be judged.
        unmatched: Settings that only one of the studies has, or has finished runs of. They are
            not judged.
    """

    table: pd.DataFrame
    unmatched: tuple[str, ...]

    @property
    def alarms(self) -> pd.DataFrame:
        """Return the rows that a continuous integration must not pass: worse or failed."""
        return self.table[self.table["verdict"].isin(["worse", "failed"])]


def against(new: Comparison, old: Comparison, failed: pd.DataFrame) -> Regression:
    """Judge `new` by `old`: the same settings, the same replicates, the difference's interval.

    Each interval is taken by itself. Of many settings that have not changed, a share of
    (1 - confidence) / 2 is called worse by chance: raise the confidence where there are many.

    Args:
        new: The study in question.
        old: The one that it must not be worse than, compared by the same settings.
        failed: Rows of runs of the new study that failed.

    Raises:
        InputError: No setting can be judged.
    """
    olds = {group.label: group for group in old.groups}
    news = {group.label: group for group in new.groups}
    lost = {group.label: group for group in group_runs(failed, new.by)} if len(failed) else {}
    rows = [
        _row(olds[label], news.get(label), metric, new, failed=label in lost)
        for metric in new.metrics
        for label in olds
        if label in news or label in lost
    ]
    only = [f"{label}: only in the study" for label in {**news, **lost} if label not in olds]
    only += [f"{label}: only in against" for label in olds if label not in {*news, *lost}]
    if not any(row["verdict"] in JUDGED for row in rows):
        why = {str(row["verdict"]) for row in rows} or {"they share no setting"}
        raise InputError(
            f"nothing can be judged: {'; '.join(sorted(why))} "
            f"(the study has {', '.join(news) or 'nothing'}; against has {', '.join(olds)})"
        )
    return Regression(pd.DataFrame(rows), tuple(only))


def _row(
    old: Group, new: Group | None, metric: str, options: Comparison, *, failed: bool
) -> dict[str, Any]:
    ours = new.values(metric, options.replicates) if new else {}
    theirs = old.values(metric, options.replicates)
    values, baseline = paired(ours, theirs)
    d = differ(values, baseline, confidence=options.confidence, interval=options.interval)
    equal = bool(len(values)) and bool(np.all(values == baseline))
    return {
        "group": old.label,
        **old.settings,
        "metric": metric,
        "pairs": d.pairs,
        "old": float(np.mean(baseline)) if d.pairs else np.nan,
        "new": float(np.mean(values)) if d.pairs else np.nan,
        "difference": d.mean,
        "difference_low": d.low,
        "difference_high": d.high,
        "p": d.p,
        "verdict": "failed" if failed else _verdict(d, equal, options.better),
    }


def _verdict(d: Difference, equal: bool, better: Better) -> str:
    if equal:
        return "equal"
    if d.pairs == 0:
        return "not judged: no replicate in common"
    if d.pairs == 1:
        return "not judged: n = 1, no interval"
    low, high = (d.low, d.high) if better == "lower" else (-d.high, -d.low)
    return "worse" if low > 0 else "better" if high < 0 else "no difference shown"
