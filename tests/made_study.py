"""Studies made of tables, with numbers that can be computed in the head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from stelab.studies.tables import Study


def make_study(
    settings: Sequence[dict[str, Any]], *, seeds: int = 3, epochs: int = 4, spread: float = 1.0
) -> Study:
    """Make runs of each setting, whose ``train/mse`` is level x (1 + spread x seed) / epoch.

    ``val/mse`` is twice as much, ``test/mse`` that of the last epoch. A setting's level is its
    own (``"level"``), else its number, from 1. Its `seeds`, else that many, are from 0.
    """
    runs, curves = [], []
    for i, setting in enumerate(settings):
        own = {key: value for key, value in setting.items() if key not in ("level", "seeds")}
        for seed in range(setting.get("seeds", seeds)):
            names = {"study": "made", "run": f"run-{i}-s{seed}"}
            table = _curve(setting.get("level", i + 1) * (1 + spread * seed), epochs)
            curves.append(table.assign(**names))
            last = table.iloc[-1].drop(["epoch", "step"])
            runs.append({**names, **_run(own, seed, i), **last, "test/mse": last["val/mse"]})
    swept = dict.fromkeys(key for row in settings for key in row if key not in ("level", "seeds"))
    return Study(
        runs=pd.DataFrame(runs),
        curves=pd.concat(curves, ignore_index=True),
        left_out=pd.DataFrame(columns=["study", "run", "state", "reason"]),
        swept=(*swept, "seed"),
    )


def _curve(level: float, epochs: int) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "train/mse": level / epoch,
            "val/mse": 2 * level / epoch,
            "code/dead_bits": np.zeros(epochs),
            "code/entropy": level + epoch,
            "code/flip_ratio": np.where(epoch > 1, 0.1 * level / epoch, np.nan),
        }
    )


def _run(setting: dict[str, Any], seed: int, number: int) -> dict[str, Any]:
    return {
        "status": "finished",
        **{"estimator": "identity", "threshold": "fixed", "model": "mlp", "data": "mnist5k"},
        **setting,
        "seed": seed,
        "timings.seconds": 10.0 * (number + 1) + seed,
        "timings.ended": "2026-01-01T00:00:00Z",
        "machine.processor": "Abacus",
        "machine.gpus": "[]",
        "fingerprint": f"{number}-{seed}",
        "folder": f"run-{number}-s{seed}",
    }
