"""What a reader must know of the runs that are compared."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from stelab.engine.comparison.hardware import other_hardware, other_precision
from stelab.engine.comparison.statistics import ENOUGH, Interval

EPOCHS = "trainer.max_epochs"
FEW = 5
"""Runs that are named one by one; more are a setting that was swept."""

ENOUGH_FOR_T = 5
"""Pairs below which a reader of a t test is warned."""


def without_duplicates(runs: pd.DataFrame, by: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Count runs of one configuration once, the newest; unless studies are told apart."""
    keys = ["fingerprint", *(["study"] if "study" in by else [])]
    order = runs.sort_values(["timings.ended", "study", "run"], kind="stable")
    twice = order.duplicated(keys, keep="last") & order["fingerprint"].notna()
    if not twice.any():
        return runs, []
    counts = order[twice]["study"].value_counts(sort=False)
    names = ", ".join(f"{number} of {study}" for study, number in counts.items())
    note = f"Configurations that were run twice count once, the newest run; left out: {names}."
    metrics = [name for name in runs if "/" in str(name) and not str(name).startswith("time/")]
    if order.groupby("fingerprint")[metrics].nunique().gt(1).any(axis=None):
        note += " Their results differ: by=study,... compares the studies."
    return order[~twice].sort_values(["study", "run"]), [note]


def remarkable(
    runs: pd.DataFrame, by: Sequence[str], averaged: Sequence[str], replicates: Sequence[str]
) -> list[str]:
    """Tell over which settings means are, and in what runs differ that should not.

    Args:
        runs: All that are compared.
        by: What they are grouped by.
        averaged: Settings that differ within groups.
        replicates: Keys that repeat a setting.
    """
    notes = []
    if averaged:
        keys = ", ".join(averaged)
        notes.append(f"Means over {keys}, replicate by replicate: by leaves them out.")
    if uneven := [key for key in averaged if _is_uneven(runs, [*by, *replicates], key)]:
        keys = ", ".join(uneven)
        notes.append(
            f"Groups or replicates do not all have the same values of {keys}, so differences of "
            f"groups are also differences of {keys}: group by it, or choose with where."
        )
    if EPOCHS in runs:
        notes += _other_epochs(runs)
    notes += [*_stopped_early(runs), *other_hardware(runs), *other_precision(runs)]
    if "edited" in runs and runs["edited"].any():
        names = ", ".join(runs.loc[runs["edited"], "run"][:FEW])
        number = int(runs["edited"].sum())
        notes.append(
            f"config.yaml of {number} runs is not what their run.json was made with, so somebody "
            f"changed it: {names}{' ...' if number > FEW else ''}."
        )
    versions = runs.get("versions.stelab", pd.Series(dtype=object)).dropna().unique()
    if len(versions) > 1:
        notes.append(f"The runs were made by several versions of stelab: {', '.join(versions)}.")
    return notes


def without_metric(runs: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Name the runs that lack a metric, which is why n is lower than it could be."""
    notes = []
    for metric in metrics:
        lacking = runs.loc[runs[metric].isna(), "run"]
        if len(lacking):
            names = ", ".join(lacking[:FEW]) + (" ..." if len(lacking) > FEW else "")
            notes.append(f"{len(lacking)} of {len(runs)} runs have no {metric}: {names}.")
    return notes


def too_few_pairs(table: pd.DataFrame, interval: Interval, alpha: float) -> list[str]:
    """Warn of tests on so few pairs that they are left out or rest on unverifiable assumptions."""
    tested = table.loc[table["p"].notna(), "pairs"]
    notes = []
    if (table["pairs"] == ENOUGH - 1).any():
        notes.append(
            "Two pairs are too few to tell a difference from chance: there is no p below "
            f"n = {ENOUGH}, and an interval of two values is hardly one. More replicates give both."
        )
    if len(tested):
        notes += _few_for_t(tested) if interval == "t" else _few_for_permutations(tested, alpha)
    return notes


def _few_for_t(pairs: pd.Series) -> list[str]:
    if pairs.min() >= ENOUGH_FOR_T:
        return []
    return [
        f"t tests and intervals of {pairs.min()} pairs take differences for normally distributed, "
        f"which so few cannot show: read p with caution below n = {ENOUGH_FOR_T}."
    ]


def _few_for_permutations(tested: pd.Series, alpha: float) -> list[str]:
    pairs = int(tested.max())
    smallest = 2.0 ** (1 - pairs)
    if smallest < alpha:
        return []
    return [
        f"The permutation test of {pairs} pairs has no p below {smallest:g}, so no difference can "
        f"be significant at {alpha:g}, and bootstrap intervals of so few are too narrow: "
        "interval=t, or more replicates."
    ]


def _is_uneven(runs: pd.DataFrame, keys: Sequence[str], averaged: str) -> bool:
    """Tell whether groups or replicates have different values of a setting, if they have it."""
    having = runs.dropna(subset=[averaged])
    cells = having.groupby(list(keys), dropna=False)[averaged].agg(frozenset)
    return bool(cells.nunique() > 1)


def _stopped_early(runs: pd.DataFrame) -> list[str]:
    """Tell that runs which were to train equally long did not."""
    if "epochs" not in runs:
        return []
    planned = runs[EPOCHS] if EPOCHS in runs else pd.Series(0, index=runs.index)
    uneven = runs["epochs"].groupby(planned).transform("nunique") > 1
    if not uneven.any():
        return []
    fewest, most = (int(end) for end in runs.loc[uneven, "epochs"].agg(["min", "max"]))
    return [
        f"Runs were stopped after different numbers of epochs, {fewest} to {most}: metrics are "
        "those of each run's own last epoch, and a group's curves end with the first of its runs."
    ]


def _other_epochs(runs: pd.DataFrame) -> list[str]:
    """Name the few runs that were trained for more or fewer epochs than all others."""
    most, *rest = runs[EPOCHS].value_counts().items()
    others = runs[runs[EPOCHS] != most[0]]
    if not rest or len(others) > FEW or len(others) >= most[1]:
        return []
    named = ", ".join(f"{row['run']} ({row[EPOCHS]:g})" for _, row in others.iterrows())
    return [f"{EPOCHS} is {most[0]:g}, but not of {named}."]
