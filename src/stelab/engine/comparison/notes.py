"""What a reader must know of the runs that are compared."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from stelab.engine.comparison.statistics import ENOUGH, Interval

EPOCHS = "trainer.max_epochs"
FEW = 5
"""Runs, or kinds of hardware, that are named one by one."""

ENOUGH_FOR_T = 5
"""Pairs below which a reader of a t test is warned."""

PRECISION = ("float32_matmul_precision", "matmul_allow_tf32", "cudnn_allow_tf32")
"""Of run.json's ``machine``, torch's switches for float32 under its own names."""


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
    """Say over which settings means are taken, and in what runs differ that should not.

    `averaged` are the settings that differ within groups.
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
    notes += [*_other_epochs(runs), *_stopped_early(runs)]
    hardware = [_hardware(run) for _, run in runs.iterrows()]
    notes += _other_kinds("different hardware", hardware)
    notes += _other_kinds("different precision of float32 (TF32)", _precisions(runs))
    if "edited" in runs and runs["edited"].any():
        edited = runs.loc[runs["edited"], "run"]
        notes.append(
            f"config.yaml of {len(edited)} runs is not what their run.json was made with, so "
            f"somebody changed it: {_first_of(edited)}."
        )
    versions = runs.get("versions.stelab", pd.Series(dtype=object)).dropna().unique()
    if len(versions) > 1:
        notes.append(f"The runs were made by several versions of stelab: {', '.join(versions)}.")
    return notes


def without_metric(runs: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Name the runs that lack a metric, which is why n is lower than it could be."""
    lacking = {metric: runs.loc[runs[metric].isna(), "run"] for metric in metrics}
    return [
        f"{len(names)} of {len(runs)} runs have no {metric}: {_first_of(names)}."
        for metric, names in lacking.items()
        if len(names)
    ]


def too_few_pairs(table: pd.DataFrame, interval: Interval, alpha: float) -> list[str]:
    """Warn of tests on so few pairs that they are left out or rest on unverifiable assumptions."""
    pairs = table.loc[table["p"].notna(), "pairs"]
    notes = []
    if (table["pairs"] == ENOUGH - 1).any():
        notes.append(
            "Two pairs are too few to tell a difference from chance: there is no p below "
            f"n = {ENOUGH}, and an interval of two values is hardly one. More replicates give both."
        )
    if interval == "t" and pairs.min() < ENOUGH_FOR_T:
        notes.append(
            f"t tests and intervals of {pairs.min()} pairs take differences for normally "
            "distributed, which so few cannot show: read p with caution below "
            f"n = {ENOUGH_FOR_T}."
        )
    if interval == "bootstrap" and (smallest := 2.0 ** (1 - pairs.max())) >= alpha:
        notes.append(
            f"The permutation test of {pairs.max()} pairs has no p below {smallest:g}, so no "
            f"difference can be significant at {alpha:g}, and bootstrap intervals of so few are "
            "too narrow: interval=t, or more replicates."
        )
    return notes


def _first_of(names: pd.Series) -> str:
    return ", ".join(names[:FEW]) + (" ..." if len(names) > FEW else "")


def _is_uneven(runs: pd.DataFrame, keys: Sequence[str], averaged: str) -> bool:
    """Whether groups or replicates have different values of a setting, if they have it."""
    having = runs.dropna(subset=[averaged])
    cells = having.groupby(list(keys), dropna=False)[averaged].agg(frozenset)
    return bool(cells.nunique() > 1)


def _stopped_early(runs: pd.DataFrame) -> list[str]:
    """Say that runs which were to train equally long did not."""
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
    counts = runs.get(EPOCHS, pd.Series(dtype=float)).value_counts()
    if len(counts) < 2:
        return []
    others = runs[runs[EPOCHS] != counts.index[0]]
    if len(others) > FEW or len(others) >= counts.iloc[0]:
        return []
    named = ", ".join(f"{row['run']} ({row[EPOCHS]:g})" for _, row in others.iterrows())
    return [f"{EPOCHS} is {counts.index[0]:g}, but not of {named}."]


def machines(runs: pd.DataFrame) -> str:
    """Name all that runs were computed on."""
    return "; ".join(sorted({_hardware(run) for _, run in runs.iterrows()}))


def _hardware(run: pd.Series) -> str:
    """Name what a run was computed on: its GPU, else its processor.

    A run of before stelab noted the device names its processor and all GPUs of its machine.
    """
    processor, device = run.get("machine.processor"), run.get("machine.device")
    if isinstance(device, str) and device != "cpu":
        return device
    try:
        gpus = [] if device == "cpu" else json.loads(run.get("machine.gpus"))
    except (TypeError, ValueError, RecursionError):
        gpus = []
    names = [processor, *(gpus if isinstance(gpus, list) else [])]
    return ", ".join(name for name in names if isinstance(name, str) and name) or (
        "an unknown machine"
    )


def _precisions(runs: pd.DataFrame) -> list[str]:
    """Write the float32 switches in which runs differ; runs that recorded none are ignored."""
    switches = runs[[f"machine.{name}" for name in PRECISION if f"machine.{name}" in runs]]
    switches = switches.dropna(how="all").map(str)
    switches = switches.loc[:, switches.nunique() > 1]
    return [
        " ".join(f"{name.removeprefix('machine.')}={row[name]}".lower() for name in switches)
        for _, row in switches.iterrows()
    ]


def _other_kinds(difference: str, names: list[str]) -> list[str]:
    counts = pd.Series(names).value_counts()
    if len(counts) < 2:
        return []
    named = "; ".join(f"{name} ({count} runs)" for name, count in counts[:FEW].items())
    rest = f"; and {len(counts) - FEW} more" if len(counts) > FEW else ""
    return [f"Runs were made with {difference}, by which alone they may differ: {named}{rest}."]
