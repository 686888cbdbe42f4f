"""What a reader must know of the runs that are compared."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

EPOCHS = "trainer.max_epochs"
FEW = 5
"""Runs that are named one by one."""


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
    if EPOCHS in runs and runs[EPOCHS].nunique() > 1:
        notes.append(_other_epochs(runs))
    versions = runs.get("versions.stelab", pd.Series(dtype=object)).dropna().unique()
    if len(versions) > 1:
        notes.append(f"The runs were made by several versions of stelab: {', '.join(versions)}.")
    return notes


def too_few_pairs(table: pd.DataFrame, alpha: float) -> list[str]:
    """Tell where permutation tests cannot find a difference, however large it is."""
    pairs = int(table["pairs"].max())
    smallest = 2.0 ** (1 - pairs)
    if pairs < 2 or smallest < alpha:
        return []
    return [
        f"The permutation test of {pairs} pairs has no p below {smallest:g}, so no difference can "
        f"be significant at {alpha:g}: interval=t, or more replicates."
    ]


def _is_uneven(runs: pd.DataFrame, keys: Sequence[str], averaged: str) -> bool:
    """Tell whether groups or replicates have different values of a setting, if they have it."""
    having = runs.dropna(subset=[averaged])
    cells = having.groupby(list(keys), dropna=False)[averaged].agg(frozenset)
    return bool(cells.nunique() > 1)


def _other_epochs(runs: pd.DataFrame) -> str:
    """Name the runs that were trained for more or fewer epochs than most."""
    most = runs[EPOCHS].mode().iloc[0]
    others = runs[runs[EPOCHS] != most]
    named = [f"{row['run']} ({row[EPOCHS]})" for _, row in others.iterrows()]
    more = f" and {len(named) - FEW} more" if len(named) > FEW else ""
    listed = ", ".join(named[:FEW])
    return f"Most runs were trained for {most} epochs, but not {listed}{more}."
