"""What ablations of estimators say, sentence by sentence, each from their numbers."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from results.ablations import COSINE, RATE, VARIANCE, Ablation
from results.measured import CONFIDENCE, Runs
from results.rates import CRITERIA, at_an_end
from stelab.engine.comparison.statistics import Difference, differ, holm

_ESTIMATORS = Path(__file__).parents[2] / "conf" / "estimator"
_AS_FAST = 1.25  # times the baseline's time
_LEAST_RANKED = 4


def what_to_use(ablation: Ablation) -> Iterator[str]:
    """Say what is best, and what is best for the baseline's time."""
    task, rows, words = ablation.task, ablation.first, ablation.words
    best, place = rows.iloc[0], _place(rows, task.baseline)
    baseline = rows[rows["estimator"] == task.baseline].iloc[0]
    yield (
        f"Of {len(rows)}, {best['estimator']} has the best mean, {_mean(best, task.digits)}; "
        f"{task.baseline} is number {place}, at {_mean(baseline, task.digits)}."
    )
    said = rows["group"].map(words).fillna("")
    better, worse = rows[said == "better"], rows[said == "worse"]
    if better.empty:
        alike = (said == "").sum() - 1
        yield f"None is better than {task.baseline}, {alike} are not shown to differ."
    else:
        fast = better[better["estimator"].map(ablation.times) <= _AS_FAST]
        yield f"Better than {task.baseline}: {len(better)}, first {_names(better)}." + (
            f" Of those no slower ({_AS_FAST:g} times its time), the best are {_names(fast)}."
            if len(fast)
            else f" None of them is as fast ({_AS_FAST:g} times its time)."
        )
    if len(worse):
        yield f"Worse than {task.baseline}: {_names(worse, len(worse))}."
    if len(unsure := rows[said.str.startswith("(")]):
        named = [f"{r['estimator']} {words[r['group']]}" for _, r in unsure.iterrows()]
        yield f"Not with each seed left out: {listed(named)}."
    yield _of_the_best(ablation)


def _of_the_best(ablation: Ablation) -> str:
    """Say who is not shown to be behind the best."""
    best, *others = ablation.first["group"]
    corrected = holm(np.array([_paired(ablation, best, other).p for other in others]))
    near = ablation.first.iloc[1:][~(corrected < 1 - CONFIDENCE)]
    return (
        f"Not shown to be behind {ablation.first.iloc[0]['estimator']} (Holm, these "
        f"{len(ablation.first)}): {_names(near, len(near))}."
    )


def what_is_surprising(ablation: Ablation) -> Iterator[str]:
    """Say whether bias, variance or direction, learning rate and threshold decide."""
    yield from _of_bias(ablation)
    yield from _of_gradients(ablation)
    yield _of_rates(ablation)
    yield from _of_settings(ablation)
    yield from _of_twins(ablation)


def what_was_not_tried(ablation: Ablation) -> Iterator[str]:
    """Say whose rate may be another."""
    criterion, sign, _ = CRITERIA[ablation.task.name]
    rates = Runs(ablation.rates, [*ablation.rates], ablation.rates)
    if names := at_an_end(rates, criterion, sign):
        yield (
            f"The rates of {', '.join(names)} are the least or the largest that were tried: "
            "others might suit better."
        )


@dataclass(frozen=True)
class Rivals:
    """The best unbiased estimator and the best that is not, at the first settings.

    Attributes:
        kinds: ``"unbiased"`` and ``"biased"``, that of the better one first.
        ahead: The better one's row.
        behind: The other's.
        sure: Whether their difference is significant, whichever seed is left out.
    """

    kinds: tuple[str, str]
    ahead: pd.Series[float]
    behind: pd.Series[float]
    sure: bool


def rivals(ablation: Ablation) -> Rivals | None:
    """Return the best estimators of both kinds; None where there is one kind alone."""
    rows = ablation.first
    kinds = (rows["estimator"].map(_exactness) == "unbiased").map(
        {True: "unbiased", False: "biased"}
    )
    firsts = rows.assign(kind=kinds).drop_duplicates("kind")  # best first
    if len(firsts) < 2:
        return None
    ahead, behind = (row for _, row in firsts.iterrows())
    sure = _holds(ablation, ahead["group"], behind["group"])
    return Rivals((ahead["kind"], behind["kind"]), ahead, behind, sure)


def _of_bias(ablation: Ablation) -> Iterator[str]:
    """Compare the best unbiased estimator with the best that is not."""
    best = rivals(ablation)
    if best is None:
        return
    rows, digits = ablation.first, ablation.task.digits
    d = _paired(ablation, best.ahead["group"], best.behind["group"])
    told = "" if best.sure else ", which may be chance"
    worst = rows[rows["estimator"].map(_exactness) == "unbiased"].iloc[-1]["estimator"]
    yield (
        f"The best estimator is {best.kinds[0]}: {best.ahead['estimator']}, "
        f"{abs(d.mean):.{digits}f} ahead of {best.behind['estimator']}, the best "
        f"{best.kinds[1]} one{told}. The worst unbiased one, {worst}, is "
        f"number {_place(rows, worst)} of {len(rows)}."
    )


def _of_gradients(ablation: Ablation) -> Iterator[str]:
    """Say whether the gradient's variance, or direction where it has none, tells who is best."""
    runs = ablation.whole.runs
    if COSINE not in runs:
        return
    runs = runs[runs["group"].isin(ablation.first["group"])]
    varies = runs.groupby("estimator")[VARIANCE].mean().dropna() > 0
    drawn = [name for name in varies.index if varies[name] or _exactness(name) == "unbiased"]
    fixed = [name for name in varies.index if name not in drawn]
    yield from _of_look(ablation, runs[runs["estimator"].isin(drawn)], VARIANCE, -1)
    yield from _of_look(ablation, runs[runs["estimator"].isin(fixed)], COSINE, 1)


_LOOKS = {
    VARIANCE: ("variance of the gradient", "whose gradient is drawn, or unbiased"),
    COSINE: (
        "cosine between gradient and exact gradient",
        "whose gradient is biased and not drawn",
    ),
}


def _of_look(ablation: Ablation, runs: pd.DataFrame, look: str, sign: int) -> Iterator[str]:
    """Say whether what was seen of gradients tells who trains best."""
    parts = [runs, *(runs[runs["seed"] != left_out] for left_out in ablation.seeds)]
    first, *others = (_rank_correlation(part, look, ablation) for part in parts)
    r, p, n = first
    if n < _LEAST_RANKED:
        return
    whole, *without_one = [q < 1 - CONFIDENCE and r * sign > 0 for r, q, _ in (first, *others)]
    says = "tells" if whole else "does not tell"
    if whole and not all(without_one):
        says = "tells (not with each seed left out)"
    what, whose = _LOOKS[look]
    part = f" ({ablation.task.part})" if ablation.task.part else ""
    yield (
        f"The {what}{part} {says} who trains better, of {n} estimators {whose}: its rank "
        f"correlation with how good {ablation.whole.metric} is comes to {r:.2f} (p = {p:.2g})."
    )


def _rank_correlation(
    runs: pd.DataFrame, look: str, ablation: Ablation
) -> tuple[float, float, int]:
    means = runs.groupby("group")[[look, ablation.whole.metric]].mean().dropna()
    if len(means) < _LEAST_RANKED:
        return math.nan, math.nan, len(means)
    good = ablation.better_sign * means[ablation.whole.metric]
    result = stats.spearmanr(means[look], good)
    return float(result.statistic), float(result.pvalue), len(means)


def _of_rates(ablation: Ablation) -> str:
    """Say what a rate that was not chosen costs, beside what another estimator does."""
    costs, criterion, digits = costs_of_rates(ablation), _criterion(ablation), ablation.task.digits
    return (
        f"A learning rate costs: the worst of {', '.join(f'{rate:g}' for rate in costs.rates)} in "
        f"place of an estimator's own {costs.worst_rate:.{digits}f} of {criterion}, the best for "
        f"all, {costs.common:g}, {costs.common_rate:.{digits}f} (medians over estimators). An "
        f"estimator, at its own rate: {costs.typical_estimator:.{digits}f} from the median one to "
        f"the others (median), {costs.worst_estimator:.{digits}f} to the worst."
    )


@dataclass(frozen=True)
class Costs:
    """Of what decides the criterion of a search, in its unit.

    Attributes:
        rates: Tried of all estimators.
        worst_rate: Of the worst of them in place of an estimator's own, median over estimators.
        common: The rate of them that costs the median estimator least.
        common_rate: What it costs that one.
        typical_estimator: Median distance of estimators, at their own rates, from the median one.
        worst_estimator: Of the worst from the median one.
    """

    rates: list[float]
    worst_rate: float
    common: float
    common_rate: float
    typical_estimator: float
    worst_estimator: float


def costs_of_rates(ablation: Ablation) -> Costs:
    """Compare what learning rates and estimators cost in the search."""
    table = ablation.rates.pivot_table(
        index="names.estimator", columns=RATE, values=_criterion(ablation)
    )
    goodness = ablation.better_sign * table
    best = goodness.max(axis=1)
    of_all = goodness.dropna(axis=1).rsub(best, axis=0)
    medians = of_all.median()
    return Costs(
        rates=[*of_all],
        worst_rate=of_all.max(axis=1).median(),
        common=medians.idxmin(),
        common_rate=medians.min(),
        typical_estimator=(best - best.median()).abs().median(),
        worst_estimator=best.median() - best.min(),
    )


def _criterion(ablation: Ablation) -> str:
    return ablation.whole.metric.replace("test/", "val/")


def _of_settings(ablation: Ablation) -> Iterator[str]:
    """Say what other thresholds do, on the mean over all estimators."""
    if not ablation.task.also:
        return
    runs, digits = ablation.whole.runs, ablation.task.digits
    at_first = runs[runs["group"].isin(ablation.first["group"])]
    rest = runs[~runs["group"].isin(ablation.first["group"])]
    for values, others in rest.groupby([*ablation.task.also], dropna=False, sort=False):
        means = pd.concat(
            [
                part.set_index(["estimator", "seed"])[ablation.whole.metric]
                for part in (others, at_first)
            ],
            axis=1,
            keys=["other", "first"],
        ).dropna()
        by_seed = means.groupby("seed").mean()
        d = differ(
            by_seed["other"].to_numpy(),
            by_seed["first"].to_numpy(),
            confidence=CONFIDENCE,
            interval="t",
        )
        of_each = (means["other"] - means["first"]).groupby("estimator").mean()
        most = of_each.abs().idxmax()
        named = _setting(ablation, values)
        yield (
            f"{named} in place of 0 moves {ablation.whole.metric} by {d.mean:+.{digits}f} "
            f"[{d.low:+.{digits}f}, {d.high:+.{digits}f}] in the mean over {len(of_each)} "
            f"estimators, by {of_each.abs().median():.{digits}f} in the median, and {most} most, "
            f"by {of_each[most]:+.{digits}f}."
        )


def _of_twins(ablation: Ablation) -> Iterator[str]:
    """Name estimators that are the same here, number by number."""
    if same := [" and ".join(sorted(each)) for each in twins(ablation)]:
        yield f"The same to the last digit, as they are configured, are {'; '.join(same)}."


def twins(ablation: Ablation) -> list[frozenset[str]]:
    """Return sets of estimators with the same numbers."""
    names = ablation.first.set_index("group")["estimator"]
    same = (frozenset(names[g] for g in i.labels if g in names) for i in ablation.whole.identical)
    return [each for each in same if len(each) > 1]


def _setting(ablation: Ablation, values: tuple[object, ...]) -> str:
    parts = dict(zip(ablation.task.also, values, strict=True))
    value = parts.get("threshold.value")
    return f"A threshold of {value:g}" if pd.notna(value) else f"A {parts['threshold']} threshold"


def _paired(ablation: Ablation, group: str, other: str, left_out: int | None = None) -> Difference:
    runs = ablation.whole.runs
    table = runs[runs["seed"] != left_out].pivot_table(
        index="seed", columns="group", values=ablation.whole.metric
    )[[group, other]]
    own, others = table.dropna().to_numpy().T
    return differ(own, others, confidence=CONFIDENCE, interval="t")


def _holds(ablation: Ablation, group: str, other: str) -> bool:
    """Whether a difference is significant, whichever seed is left out."""
    found = [_paired(ablation, group, other, seed) for seed in (None, *ablation.seeds)]
    return all(d.p < 1 - CONFIDENCE and d.mean * found[0].mean > 0 for d in found)


def _place(rows: pd.DataFrame, estimator: str) -> int:
    return 1 + rows["estimator"].tolist().index(estimator)


def _mean(row: pd.Series[float], digits: int) -> str:
    return f"{row['mean']:.{digits}f}"


def _names(rows: pd.DataFrame, most: int = 3) -> str:
    return listed(rows["estimator"].tolist()[:most])


def listed(names: Sequence[str]) -> str:
    """Return names as in a sentence."""
    if not names:
        return "no estimator"  # one is called none
    return ", ".join(names[:-1]) + (" and " if names[:-1] else "") + names[-1]


@functools.cache
def _exactness(name: str) -> str:
    """Return what the class of an option of the group ``estimator`` says of itself."""
    config = yaml.safe_load((_ESTIMATORS / f"{name}.yaml").read_text(encoding="utf-8"))
    module, _, kind = config["_target_"].rpartition(".")
    exactness: str = getattr(importlib.import_module(module), kind).exactness
    return exactness
