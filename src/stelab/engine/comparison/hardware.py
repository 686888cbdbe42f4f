"""On what runs were made: results may differ by that alone."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

PRECISION = ("float32_matmul_precision", "matmul_allow_tf32", "cudnn_allow_tf32")
"""Of run.json's ``machine``, torch's switches for float32 under its own names."""

_MOST = 5


def hardware(run: pd.Series) -> str:
    """Name what a run was computed on: its GPU, else its processor.

    A run of before stelab noted the device names its processor and all GPUs of its machine.
    """
    processor, device = run.get("machine.processor"), run.get("machine.device")
    if isinstance(device, str) and device != "cpu":
        return device
    gpus = [] if device == "cpu" else _gpus(run.get("machine.gpus"))
    names = [name for name in (processor, *gpus) if isinstance(name, str) and name]
    return ", ".join(names) or "an unknown machine"


def machines(runs: pd.DataFrame) -> str:
    """Name all that runs were computed on."""
    return "; ".join(sorted({hardware(run) for _, run in runs.iterrows()}))


def other_hardware(runs: pd.DataFrame) -> list[str]:
    """Tell where runs were computed on several kinds of processors or GPUs."""
    counts = pd.Series([hardware(run) for _, run in runs.iterrows()]).value_counts()
    return _differ("different hardware", counts)


def other_precision(runs: pd.DataFrame) -> list[str]:
    """Warn if runs had different float32 switches; runs that recorded none are ignored."""
    columns = [name for name in PRECISION if f"machine.{name}" in runs]
    switches = runs[[f"machine.{name}" for name in columns]].dropna(how="all")
    differing = [c for c in columns if switches[f"machine.{c}"].map(str).nunique() > 1]
    texts = [
        " ".join(f"{name}={row[f'machine.{name}']}".lower() for name in differing)
        for _, row in switches.iterrows()
    ]
    if not differing:
        return []
    return _differ("different precision of float32 (TF32)", pd.Series(texts).value_counts())


def _differ(what: str, counts: pd.Series) -> list[str]:
    if len(counts) < 2:
        return []
    named = "; ".join(f"{name} ({count} runs)" for name, count in counts[:_MOST].items())
    rest = f"; and {len(counts) - _MOST} more" if len(counts) > _MOST else ""
    return [f"Runs were made with {what}, by which alone they may differ: {named}{rest}."]


def _gpus(cell: Any) -> list[str]:
    try:
        found = json.loads(cell)
    except (TypeError, ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []
