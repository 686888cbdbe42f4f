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


def remarkable(runs: pd.DataFrame, averaged: Sequence[str], replicates: Sequence[str]) -> list[str]:
    """Tell over which settings means are, and in what runs differ that should not.

    Args:
        runs: All that are compared.
        averaged: Settings that differ within groups.
        replicates: Keys that repeat a setting.
    """
    notes = []
    if averaged:
        note = f"Means over {', '.join(averaged)}, replicate by replicate: by leaves them out."
        if runs.groupby(list(replicates), dropna=False).size().nunique() > 1:
            note += " Not all replicates have all of them."
        notes.append(note)
    if EPOCHS in runs and runs[EPOCHS].nunique() > 1:
        notes.append(_other_epochs(runs))
    versions = runs.get("versions.stelab", pd.Series(dtype=object)).dropna().unique()
    if len(versions) > 1:
        notes.append(f"The runs were made by several versions of stelab: {', '.join(versions)}.")
    return notes


def _other_epochs(runs: pd.DataFrame) -> str:
    """Name the runs that were trained for more or fewer epochs than most."""
    most = runs[EPOCHS].mode().iloc[0]
    others = runs[runs[EPOCHS] != most]
    named = [f"{row['run']} ({row[EPOCHS]})" for _, row in others.iterrows()]
    more = f" and {len(named) - FEW} more" if len(named) > FEW else ""
    listed = ", ".join(named[:FEW])
    return f"Most runs were trained for {most} epochs, but not {listed}{more}."
