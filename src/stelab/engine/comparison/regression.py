"""Has a study become worse than an older one?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stelab.engine.comparison.compare import Comparison
from stelab.engine.comparison.conditions import select_where
from stelab.engine.comparison.groups import Group, group_runs, paired
from stelab.engine.comparison.statistics import ENOUGH, Difference, differ
from stelab.engine.errors import InputError

JUDGED = ("worse", "better", "equal", "no difference shown", "failed", "lost")
ALARMS = ("worse", "failed", "lost")
FAILED = {"failed", "broken"}
# Pairs from which on a bootstrap is believed: of fewer its interval is about their range.
ENOUGH_FOR_BOOTSTRAP = 6


@dataclass(frozen=True)
class Regression:
    """A study against an older one, setting by setting.

    Attributes:
        table: One row a setting and metric: `group`, the settings, `metric`, `pairs`, `old`,
            `new`, `difference` (new - old, paired by replicate), `difference_low`,
            `difference_high`, `p`, `verdict`. The verdict is ``"worse"`` or ``"better"`` where
            the interval of the difference leaves out 0 (pairs that all differ by the same amount
            have one of no width), ``"equal"`` where no pair differs at all, ``"failed"`` where a
            run of the new study failed or has a metric that is no number, ``"lost"`` where it has
            no finished run of the setting, but runs that cannot be compared, or none with the
            metric, else ``"no difference shown"`` or why it cannot be judged.
        unmatched: Settings that only one of the studies has. They are not judged.
    """

    table: pd.DataFrame
    unmatched: tuple[str, ...]

    @property
    def alarms(self) -> pd.DataFrame:
        """Return the rows that a continuous integration must not pass: worse, failed or lost."""
        return self.table[self.table["verdict"].isin(ALARMS)]


def against(new: Comparison, old: Comparison) -> Regression:
    """Judge `new` by `old`, both compared by the same settings: by each difference's interval.

    Each interval is taken by itself. Of many settings that have not changed, a share of
    (1 - confidence) / 2 is called worse by chance: raise the confidence where there are many.
    """
    olds = {group.label: group for group in old.groups}
    news = {group.label: group for group in new.groups}
    asked = select_where(new.study.runs, new.where)
    asked = asked.merge(new.study.left_out, on=["study", "run"])
    unfinished = {group.label: set(group.runs["state"]) for group in group_runs(asked, new.by)}
    lost = {label: "failed" for label, states in unfinished.items() if states & FAILED}
    if (new.study.left_out["state"] != "foreign").any():
        # Nobody knows what setting a damaged run had.
        lost = {label: "lost" for label in olds if label not in news} | lost
    judged = [label for label in olds if label in news or label in lost]
    rows = [
        _row(olds[label], news.get(label), metric, new, lost=lost.get(label))
        for metric in new.metrics
        for label in judged
    ]
    only = [f"{label}: only in the study" for label in {**news, **unfinished} if label not in olds]
    only += [f"{label}: only in against" for label in olds if label not in judged]
    if not any(row["verdict"] in JUDGED for row in rows):
        why = {str(row["verdict"]) for row in rows} or {"they share no setting"}
        raise InputError(
            f"nothing can be judged: {'; '.join(sorted(why))} "
            f"(the study has {', '.join(news)}; against has {', '.join(olds)})"
        )
    return Regression(pd.DataFrame(rows), tuple(only))


def _row(
    old: Group, new: Group | None, metric: str, options: Comparison, *, lost: str | None
) -> dict[str, Any]:
    ours = new.values(metric) if new else {}
    theirs = old.values(metric)
    values, baseline = paired(ours, theirs)
    d = differ(values, baseline, confidence=options.confidence, interval=options.interval)
    if lost is None and theirs and not ours:
        lost = "lost"
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
        "verdict": lost or _verdict(d, bool(np.all(values == baseline)), metric, options),
    }


def _verdict(d: Difference, equal: bool, metric: str, options: Comparison) -> str:
    if d.pairs == 0:
        return "not judged: no replicate in common"
    if equal:
        return "equal"
    if d.pairs == 1:
        return "not judged: n = 1, no interval"
    if d.pairs < ENOUGH:
        return f"not judged: n = {d.pairs}, too few to tell a difference from chance"
    if options.interval == "bootstrap" and d.pairs < ENOUGH_FOR_BOOTSTRAP:
        return f"not judged: a bootstrap needs {ENOUGH_FOR_BOOTSTRAP} pairs"
    low, high = (d.low, d.high) if options.better_of(metric) == "lower" else (-d.high, -d.low)
    return "worse" if low > 0 else "better" if high < 0 else "no difference shown"
