"""Which setting is better, by how much, and is it real."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import cast, get_args

import numpy as np
import pandas as pd
from scipy import stats

from stelab.engine.comparison.conditions import find_baseline, holds, require_columns, select_where
from stelab.engine.comparison.groups import (
    Group,
    Identical,
    compare_groups,
    find_identical,
    group_runs,
    written_replicate,
)
from stelab.engine.comparison.notes import notes_on, too_few_pairs, without_duplicates
from stelab.engine.comparison.statistics import Interval
from stelab.engine.errors import InputError
from stelab.engine.studies.headline import Better, Headline
from stelab.engine.studies.study import Study, write_table


@dataclass(frozen=True)
class Comparison:
    """A study's groups, compared.

    `table` has one row a group and metric, in that order: `group`, the settings, `metric`, `runs`,
    `n` (replicates), `mean`, `std`, `low`, `high`, `selected` (it is the best of several, chosen by
    this very number), `baseline` (the group it is compared with; its own name if it is one itself;
    empty if there is none), `pairs`, `difference`, `difference_low`, `difference_high`,
    `effect_size`, `p`, `p_holm`, `significant`.
    """

    study: Study  # the tables that it was made from
    metrics: tuple[str, ...]  # groups are sorted by the first
    by: tuple[str, ...]  # settings that runs are grouped by
    where: str  # conditions that the runs were chosen by; empty: all
    replicates: tuple[str, ...]  # keys that repeat a setting; runs are paired by them
    baseline: str  # what the others are compared with, "estimator=identity"; empty: nothing
    confidence: float  # of all intervals
    interval: Interval
    directions: tuple[Better, ...]  # which values of each of `metrics` are better
    groups: tuple[Group, ...]  # best first
    table: pd.DataFrame
    identical: tuple[Identical, ...]  # groups that are the same, number by number
    notes: tuple[str, ...]  # what a reader must know, a sentence each

    @property
    def metric(self) -> str:
        """Return the metric that groups are sorted by."""
        return self.metrics[0]

    @property
    def better(self) -> Better:
        """Return the direction of the metric that groups are sorted by."""
        return self.directions[0]

    def better_of(self, metric: str) -> Better:
        """Return the direction of a metric."""
        return self.directions[self.metrics.index(metric)]

    @property
    def alpha(self) -> float:
        """Return the level below which a corrected p value is significant: 1 - confidence."""
        return round(1 - self.confidence, 12)

    @property
    def best_end(self) -> str:
        """Return ``"lowest"`` or ``"highest"``: which mean is best."""
        return "lowest" if self.better == "lower" else "highest"

    def rows(self, metric: str) -> pd.DataFrame:
        """Return the rows of a metric, in the order of the groups."""
        return self.table[self.table["metric"] == metric]

    @cached_property
    def candidates(self) -> int:
        """Return how many means the best one was chosen from; identical groups are one."""
        rows = self.rows(self.metric).dropna(subset=["mean"])
        return int(rows["group"].map(self.line_of).nunique())

    @cached_property
    def runs(self) -> pd.DataFrame:
        """Return the rows of all compared runs with `group` and `replicate`, best group first."""
        return pd.concat([g.runs.assign(group=g.label) for g in self.groups], ignore_index=True)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Return their curves, with `group` and `replicate`, best group first."""
        keys = self.runs[["study", "run", "group", "replicate"]]
        return keys.merge(self.study.curves, on=["study", "run"], how="left")

    def mean_curves(self, metric: str) -> pd.DataFrame:
        """Return `group`, `epoch`, `n`, `mean`, `low`, `high`; identical groups are one.

        The interval is Student's, for the mean over replicates of each epoch by itself. A group's
        curve ends with the first of its runs, which early stopping may have ended: the mean of
        those that went on is of another sample, and would jump.
        """
        columns = ["group", "epoch", "n", "mean", "low", "high"]
        curves = self.curves.assign(group=self.curves["group"].map(self.line_of))
        if metric not in curves:
            return pd.DataFrame(columns=columns)
        lengths = curves.groupby(["group", "study", "run"])["epoch"].max()
        shared = curves["epoch"] <= curves["group"].map(lengths.groupby("group").min())
        curves = curves[shared].dropna(subset=[metric])
        # Identical groups, and keys that are not grouped by, give a replicate several curves.
        # Sorted, so that sums do not depend on the order of runs.
        by_replicate = curves.sort_values(metric).groupby(["group", "epoch", "replicate"])
        by_epoch = by_replicate[metric].mean().groupby(["group", "epoch"])
        table = by_epoch.agg(["count", "mean", "sem"]).reset_index()
        n, mean, sem = (table[name].to_numpy() for name in ("count", "mean", "sem"))
        with np.errstate(invalid="ignore", divide="ignore"):
            half = stats.t.ppf((1 + self.confidence) / 2, np.where(n > 1, n - 1, np.nan)) * sem
        return table.assign(n=n, low=mean - half, high=mean + half)[columns]

    @cached_property
    def line_of(self) -> dict[str, str]:
        """Map each group's label to that of its line in a figure; identical groups share one."""
        lines = {group.label: group.label for group in self.groups}
        return lines | {label: same.label for same in self.identical for label in same.labels}

    @property
    def lines(self) -> list[str]:
        """Return the labels of the lines of a figure, best first."""
        return list(dict.fromkeys(self.line_of[group.label] for group in self.groups))

    def write(self, folder: Path) -> None:
        """Write the table as comparison.csv and .parquet, and those of the study."""
        self.study.write(folder)
        write_table(self.table, folder / "comparison")


def compare(
    study: Study,
    *,
    metrics: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    where: str | None = None,
    baseline: str | None = None,
    replicates: Sequence[str] = ("seed",),
    better: Better | Sequence[Better] | None = None,
    confidence: float = 0.95,
    interval: Interval = "t",
) -> Comparison:
    """Group a study's finished runs by their settings and compare the groups.

    Args:
        study: See `stelab.engine.studies.load`.
        metrics: Names of metrics; groups are sorted by the first one. None: the runs' headline.
        by: Settings to group by; None: all that were swept, but the replicates. The mean over a
            setting left out is taken replicate by replicate.
        where: Conditions that runs must meet, e.g. ``"estimator=identity,none model=mlp"``.
        baseline: Conditions that name the baseline, e.g. ``"estimator=identity"``. Settings that
            they leave open are held fixed: each group is compared with the baseline that shares
            them. None: the first setting's default in ``conf/train.yaml``, where it is among the
            runs.
        replicates: Keys that repeat a setting and pair runs.
        better: Whether ``"lower"`` or ``"higher"`` values are better: one direction for all
            metrics, or one for each. None: the headline's own, of all others lower.
        confidence: Of all intervals.
        interval: ``"t"`` (Student) or ``"bootstrap"`` (BCa, with permutation tests).

    Raises:
        InputError: Nothing is left to compare, or a metric, key or value is not there.
    """
    if metrics is not None and (isinstance(metrics, str) or not metrics):
        raise InputError(f"metrics must be one name or several in a list, got {metrics!r}")
    if interval not in get_args(Interval):
        raise InputError(f"interval must be t or bootstrap, got {interval!r}")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, got {confidence!r}")
    asked, runs = _selected(study, where)
    headline = study.headline(runs)
    if metrics is None:
        metrics = (_required(headline).test,)
    directions = _directions(metrics, better or [_own_direction(m, headline) for m in metrics])
    metrics = [*directions]
    if by is None:  # also what only an unfinished run has another value of
        by = differing(study, asked, [*replicates, *metrics])
    elif repeated := [key for key in by if key in replicates]:
        raise InputError(f"by: {repeated[0]} repeats settings: take it out, or out of replicates")
    by = list(dict.fromkeys(by))
    require_columns(runs, metrics=metrics, keys=[*by, *replicates])
    if len(unknown := runs.loc[runs[list(replicates)].isna().all(axis="columns"), "run"]):
        raise InputError(
            f"{len(unknown)} runs, such as {unknown.iloc[0]}, have no {', '.join(replicates)}, "
            "which tells repetitions of a setting apart: replicates=run, or where= without them"
        )
    runs, twice = without_duplicates(runs, by)
    names = [written_replicate(row, replicates) for _, row in runs.iterrows()]
    groups = group_runs(runs.assign(replicate=names), by)
    settings = pd.DataFrame([group.settings for group in groups], columns=list(by))
    chosen = find_baseline(baseline, settings)

    def rank(group: Group) -> tuple[bool, float, bool]:
        """Sort the best mean first, groups without one last; of equal ones, the baseline first."""
        values = [*group.values(metrics[0]).values()]
        mean = float(np.mean(values)) if values else 0.0
        is_baseline = bool(chosen) and holds(chosen, group.settings)
        return not values, mean if directions[metrics[0]] == "lower" else -mean, not is_baseline

    groups.sort(key=rank)
    table = compare_groups(groups, chosen, metrics, confidence, interval)
    means = table.loc[table["metric"] == metrics[0], "mean"]
    if means.notna().sum() > 1:
        table.loc[means.index[0], "selected"] = True
    averaged = [
        key
        for key in differing(study, runs, [*by, *replicates, *metrics])
        if any(group.runs[key].map(str).nunique() > 1 for group in groups)
    ]
    notes = [*twice, *notes_on(runs, metrics, averaged, [*by, *replicates])]
    notes += too_few_pairs(table, interval, 1 - confidence)
    return Comparison(
        study=study,
        metrics=tuple(directions),
        by=tuple(by),
        where=where or "",
        replicates=tuple(replicates),
        baseline=" ".join(f"{key}={','.join(values)}" for key, values in chosen.items()),
        confidence=confidence,
        interval=interval,
        directions=tuple(directions.values()),
        groups=tuple(groups),
        table=table,
        identical=tuple(find_identical(groups, study.curves)),
        notes=tuple(notes),
    )


def _required(headline: Headline | None) -> Headline:
    if headline is None:
        raise InputError(
            "metric must be given, as the runs are of several tasks and share no headline: "
            "metric=NAME, or where=... to choose runs of one"
        )
    return headline


def _own_direction(metric: str, headline: Headline | None) -> Better:
    is_its_own = headline is not None and metric.rpartition("/")[2] == headline.metric
    return headline.better if headline is not None and is_its_own else "lower"


def _directions(metrics: Sequence[str], better: str | Sequence[str]) -> dict[str, Better]:
    """Return each metric's direction, in their order."""
    given = [better] if isinstance(better, str) else [*better]
    for direction in given:
        if direction not in get_args(Better):
            raise InputError(f"better must be lower or higher, got {direction!r}")
    if len(given) not in (1, len(metrics)):
        raise InputError(
            f"better must be one direction for all metrics, or one for each of "
            f"{', '.join(metrics)}; got {', '.join(given)}"
        )
    directions: dict[str, Better] = {}
    for metric, direction in zip(metrics, cycle(given), strict=False):
        if directions.setdefault(metric, cast(Better, direction)) != direction:
            raise InputError(f"better: {metric} is given twice, lower and higher")
    return directions


def _selected(study: Study, where: str | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the runs that are asked for, and the finished ones of them."""
    if study.finished.empty:
        counts = study.left_out["state"].value_counts()
        kinds = ", ".join(f"{number} {state}" for state, number in counts.items())
        raise InputError(f"there is no finished run to compare ({kinds})")
    asked = select_where(study.runs, where)
    finished = study.finished[study.finished.index.isin(asked.index)]
    if finished.empty:
        raise InputError(f"where: no finished run meets all of '{where}'")
    return asked, finished


def differing(study: Study, runs: pd.DataFrame, but: Sequence[str]) -> list[str]:
    """Return the swept settings in which `runs` differ, without those of `but`."""
    return [key for key in study.swept if key not in but and runs[key].map(str).nunique() > 1]
