"""Studies made of rows, for tests that choose their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from stelab.engine.studies.study import Study

Row = dict[str, Any]

# What every run has; a row of a test says only what matters to it.
COMMON: Row = {
    **{"study": "made", "status": "finished"},
    **{"estimator": "identity", "threshold": "fixed", "model": "mlp", "data": "mnist5k"},
    **{"seed": 0, "timings.seconds": 60.0, "timings.ended": "2026-01-01T00:00:00Z"},
}
_SETTINGS = ("estimator", "threshold", "model", "data", "optimizer", "seed")


def study_of(rows: Sequence[Row], *, left_out: Sequence[Row] = ()) -> Study:
    """Make a study of runs.

    Args:
        rows: Settings and metrics of each run. ``"curve"``: its ``val/mse`` in every epoch, or
            those of several metrics by their names; without one, it has two epochs, made from
            ``test/mse``.
        left_out: `run`, `state` and `reason` of what cannot be compared.
    """
    runs = [
        {"run": f"run{i}", "fingerprint": f"{i:064x}", "folder": f"run{i}", **COMMON, **row}
        for i, row in enumerate(rows)
    ]
    keys = dict.fromkeys(key for row in runs for key in row if _is_setting(key))
    table = pd.DataFrame([{k: v for k, v in row.items() if k != "curve"} for row in runs])
    lost = pd.DataFrame([{"study": "made", **row} for row in left_out])
    return Study(
        runs=table,
        curves=pd.concat([_curve(row) for row in runs], ignore_index=True),
        left_out=lost.reindex(columns=["study", "run", "state", "reason"]),
        swept=tuple(sorted(key for key in keys if table[key].map(str).nunique() > 1)),
    )


def _is_setting(key: str) -> bool:
    return key in _SETTINGS or ("." in key and not key.startswith("timings."))


def _curve(row: Row) -> pd.DataFrame:
    curve = row.get("curve", [2 * row.get("test/mse", 0.0), row.get("test/mse", 0.0)])
    metrics = curve if isinstance(curve, Mapping) else {"val/mse": curve}
    values = {name: np.array(found, float) for name, found in metrics.items()}
    epochs = np.arange(1, len(next(iter(values.values()))) + 1)
    table = {"study": row["study"], "run": row["run"], "epoch": epochs, "step": 10 * epochs}
    return pd.DataFrame({**table, **values})


def make_study(
    settings: Sequence[Row], *, seeds: int = 3, epochs: int = 4, spread: float = 1.0
) -> Study:
    """Make runs of each setting, whose ``train/mse`` is level x (1 + spread x seed) / epoch.

    ``val/mse`` is twice as much, ``test/mse`` that of the last epoch. A setting's level is its
    own (``"level"``), else its number, from 1. Its `seeds`, else that many, are from 0.
    """
    rows = []
    for i, setting in enumerate(settings):
        own = {key: value for key, value in setting.items() if key not in ("level", "seeds")}
        for seed in range(setting.get("seeds", seeds)):
            curve = _curves(setting.get("level", i + 1) * (1 + spread * seed), epochs)
            last = {name: values[-1] for name, values in curve.items()}
            name = f"run-{i}-s{seed}"
            where = {"run": name, "folder": name, "timings.seconds": 10.0 * (i + 1) + seed}
            where |= {"machine.processor": "Abacus", "machine.gpus": "[]"}
            metrics = {**last, "test/mse": last["val/mse"], "curve": curve}
            rows.append({**where, **own, "seed": seed, **metrics})
    return study_of(rows)


def _curves(level: float, epochs: int) -> dict[str, np.ndarray]:
    epoch = np.arange(1, epochs + 1)
    return {
        "train/mse": level / epoch,
        "val/mse": 2 * level / epoch,
        "code/dead_bits": np.zeros(epochs),
        "code/entropy": level + epoch,
        "code/flip_ratio": np.where(epoch > 1, 0.1 * level / epoch, np.nan),
    }


def random_study(seed: int) -> Study:
    """Make a study as real ones are: settings that some lack, replicates that are missing."""
    rng = np.random.default_rng(seed)
    replicates = range(int(rng.integers(1, 7)))
    rows = [
        {**setting, "seed": i, "test/mse": _value(rng), "val/mse": _value(rng)}
        for setting in _settings(rng)
        for i in replicates
        if rng.random() < 0.85
    ]
    for row in rows:
        if rng.random() < 0.1:
            del row["val/mse"]
    return study_of(rows or [{"test/mse": 1.0, "val/mse": 1.0}])


def _settings(rng: np.random.Generator) -> list[Row]:
    names = ("hardtanh_clip", "identity", "none", "gumbel_st")
    estimators: list[Row] = [{"estimator": str(name)} for name in names[: rng.integers(1, 4)]]
    estimators += [
        {"estimator": "gumbel_st", "estimator.temperature": float(value)}
        for value in rng.choice([0.1, 0.5, 1.0], size=rng.integers(0, 3), replace=False)
    ]
    thresholds = [{"threshold.value": float(v)} for v in (0, 0.5, 1)[: rng.integers(1, 4)]]
    return [{**one, **other} for one in estimators for other in thresholds]


def _value(rng: np.random.Generator) -> float:
    """Return a loss; now and then one that others have too."""
    return float(round(rng.normal(0.02, 0.003), int(rng.choice([3, 9]))))
