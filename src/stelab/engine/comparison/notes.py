"""What a reader must know of the runs that are compared."""

import json
from collections.abc import Iterator, Sequence

import pandas as pd

from stelab.engine.comparison.statistics import ENOUGH, Interval

EPOCHS = "trainer.max_epochs"
FEW = 5  # runs, or kinds of hardware, that are named one by one
ENOUGH_FOR_T = 5  # pairs below which a reader of a t test is warned
# Of run.json's `machine`, torch's switches for float32 under its own names.
PRECISION = ("float32_matmul_precision", "matmul_allow_tf32", "cudnn_allow_tf32")


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


def notes_on(
    runs: pd.DataFrame, metrics: Sequence[str], averaged: Sequence[str], keys: Sequence[str]
) -> Iterator[str]:
    """Warn of what runs lack or differ in; `averaged` settings differ within groups."""
    for metric in metrics:
        if len(lacking := runs.loc[runs[metric].isna(), "run"]):
            yield f"{len(lacking)} of {len(runs)} runs have no {metric}: {_first_of(lacking)}."
    if averaged:
        yield f"Means over {', '.join(averaged)}, replicate by replicate: by leaves them out."
    if uneven := ", ".join(name for name in averaged if _is_uneven(runs, keys, name)):
        yield (
            f"Groups or replicates do not all have the same values of {uneven}, so differences of "
            f"groups are also differences of {uneven}: group by it, or choose with where."
        )
    yield from _different_epochs(runs)
    hardware = [_hardware(run) for _, run in runs.iterrows()]
    yield from _different_kinds("hardware", hardware)
    yield from _different_kinds("precision of float32 (TF32)", _precisions(runs))
    if "edited" in runs and runs["edited"].any():
        edited = runs.loc[runs["edited"], "run"]
        yield (
            f"config.yaml of {len(edited)} runs is not what their run.json was made with, so "
            f"somebody changed it: {_first_of(edited)}."
        )
    versions = runs.get("versions.stelab", pd.Series(dtype=object)).dropna().unique()
    if len(versions) > 1:
        yield f"The runs were made by several versions of stelab: {', '.join(versions)}."


def too_few_pairs(table: pd.DataFrame, interval: Interval, alpha: float) -> Iterator[str]:
    """Warn of tests on so few pairs that they are left out or rest on unverifiable assumptions."""
    pairs = table.loc[table["p"].notna(), "pairs"]
    if (table["pairs"] == ENOUGH - 1).any():
        yield (
            "Two pairs are too few to tell a difference from chance: there is no p below "
            f"n = {ENOUGH}, and an interval of two values is hardly one. More replicates give both."
        )
    if interval == "t" and pairs.min() < ENOUGH_FOR_T:
        yield (
            f"t tests and intervals of {pairs.min()} pairs take differences for normally "
            "distributed, which so few cannot show: read p with caution below "
            f"n = {ENOUGH_FOR_T}."
        )
    if interval == "bootstrap" and (smallest := 2.0 ** (1 - pairs.max())) >= alpha:
        yield (
            f"The permutation test of {pairs.max()} pairs has no p below {smallest:g}, so no "
            f"difference can be significant at {alpha:g}, and bootstrap intervals of so few are "
            "too narrow: interval=t, or more replicates."
        )


def _first_of(names: pd.Series) -> str:
    return ", ".join(names[:FEW]) + (" ..." if len(names) > FEW else "")


def _is_uneven(runs: pd.DataFrame, keys: Sequence[str], averaged: str) -> bool:
    """Whether groups or replicates have different values of a setting, if they have it."""
    having = runs.dropna(subset=[averaged])
    cells = having.groupby(list(keys), dropna=False)[averaged].agg(frozenset)
    return bool(cells.nunique() > 1)


def _different_epochs(runs: pd.DataFrame) -> Iterator[str]:
    """Name the few runs that had more or fewer epochs than all others, and say if any stopped."""
    planned = runs[EPOCHS] if EPOCHS in runs else pd.Series(0, index=runs.index)
    counts = planned.value_counts()
    others = runs[planned != counts.index[0]] if len(counts) > 1 else runs[:0]
    if 0 < len(others) <= FEW and len(others) < counts.iloc[0]:
        names = ", ".join(f"{row['run']} ({row[EPOCHS]:g})" for _, row in others.iterrows())
        yield f"{EPOCHS} is {counts.index[0]:g}, but not of {names}."
    trained = runs.get("epochs", pd.Series(0, index=runs.index))
    stopped = trained[trained.groupby(planned).transform("nunique") > 1]
    if len(stopped):
        yield (
            "Runs were stopped after different numbers of epochs, "
            f"{stopped.min():.0f} to {stopped.max():.0f}: metrics are those of each run's own "
            "last epoch, and a group's curves end with the first of its runs."
        )


def machines(runs: pd.DataFrame) -> str:
    """Name all that runs were computed on."""
    return "; ".join(sorted({_hardware(run) for _, run in runs.iterrows()}))


def _hardware(run: pd.Series) -> str:
    """Name what a run was computed on: its GPU, else its processor."""
    processor, device = run.get("machine.processor"), run.get("machine.device")
    if isinstance(device, str) and device != "cpu":
        return device
    try:  # a run of before stelab noted the device names all GPUs of its machine too
        gpus = [] if device == "cpu" else json.loads(run.get("machine.gpus"))
    except (TypeError, ValueError, RecursionError):
        gpus = []
    names = [processor, *(gpus if isinstance(gpus, list) else [])]
    known = [name for name in names if isinstance(name, str) and name]
    return ", ".join(known) or "an unknown machine"


def _precisions(runs: pd.DataFrame) -> list[str]:
    """Write the float32 switches in which runs differ; runs that recorded none are ignored."""
    switches = runs[[f"machine.{name}" for name in PRECISION if f"machine.{name}" in runs]]
    switches = switches.dropna(how="all").map(str)
    switches = switches.loc[:, switches.nunique() > 1]
    return [
        " ".join(f"{name.removeprefix('machine.')}={row[name]}".lower() for name in switches)
        for _, row in switches.iterrows()
    ]


def _different_kinds(difference: str, kinds: list[str]) -> Iterator[str]:
    counts = pd.Series(kinds).value_counts()
    if len(counts) > 1:
        named = "; ".join(f"{kind} ({count} runs)" for kind, count in counts[:FEW].items())
        rest = f"; and {len(counts) - FEW} more" if len(counts) > FEW else ""
        yield (
            f"Runs were made with different {difference}, by which alone they may differ: "
            f"{named}{rest}."
        )
