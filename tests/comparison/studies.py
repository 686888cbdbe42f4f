"""Studies made of rows, for tests that choose their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from stelab.studies.tables import Study

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
        rows: Settings and metrics of each run. ``"curve"``: its ``val/mse`` in every epoch;
            without one, it has two epochs, made from ``test/mse``.
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
    values = row.get("curve", [2 * row.get("test/mse", 0.0), row.get("test/mse", 0.0)])
    epochs = np.arange(1, len(values) + 1)
    table = {"study": row["study"], "run": row["run"], "epoch": epochs, "step": 10 * epochs}
    return pd.DataFrame({**table, "val/mse": np.array(values, float)})


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
