"""Measurements of many configurations: what `stelab gradients` runs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from stelab.annealing import advance
from stelab.engine.config import build
from stelab.engine.files import write_atomically
from stelab.estimators import Estimator
from stelab.lab.gradients.measure import Measurement, adapt, measure, references
from stelab.lab.gradients.problems import Enumeration
from stelab.lab.training.isolation import isolated

TENSORS = ("mean", "variances", "exact")


@dataclass(frozen=True)
class Row:
    """One estimator against one reference, see `stelab.lab.gradients.measure.references`."""

    label: str  # the estimator, with the values in which its rows differ
    estimator: str
    swept: dict[str, Any]  # these values, by key
    reference: str
    exactness: str  # as the estimator's class claims it
    measurement: Measurement


def measure_all(jobs: Sequence[DictConfig]) -> list[Row]:
    """Measure every configuration, each independently; the smallest mean squared error is first."""
    estimators = list[Estimator]()
    for cfg in jobs:  # all mistakes before the first number
        with isolated(cfg.seed, threads=torch.get_num_threads()):
            estimators.append(build(cfg.estimator))
        advance(estimators[-1], cfg.progress)
    enumerations: dict[str, Enumeration] = {}
    rows = []
    pending = zip(jobs, estimators, differences(jobs), strict=True)
    bar = Console(stderr=True)
    hidden = not bar.is_terminal
    for cfg, estimator, swept in track(pending, total=len(jobs), console=bar, disable=hidden):
        problem = json.dumps(OmegaConf.to_container(cfg.problem, resolve=True), sort_keys=True)
        if problem not in enumerations:
            enumerations[problem] = Enumeration(build(cfg.problem))
        name, exactness = cfg.names.estimator, estimator.exactness
        label = " ".join([name, *(f"{key}={value}" for key, value in swept.items())])
        enumeration = enumerations[problem]
        exact = {name: enumeration.gradient(law) for name, law in references(estimator).items()}
        generator = torch.Generator().manual_seed(cfg.seed)
        adapt(estimator, enumeration, steps=cfg.adapt, generator=generator)
        measured = measure(estimator, enumeration, exact, samples=cfg.samples, generator=generator)
        for reference, measurement in measured.items():
            rows.append(Row(label, name, swept, reference, exactness, measurement))
    return sorted(rows, key=lambda row: row.measurement.mse)


def differences(jobs: Sequence[DictConfig]) -> list[dict[str, Any]]:
    """Return, for every job, the values in which it differs from jobs of the same estimator."""
    flat = [dict(_leaves(OmegaConf.to_container(cfg, resolve=False))) for cfg in jobs]
    differing = []
    for leaves in flat:
        same = [other for other in flat if other["names.estimator"] == leaves["names.estimator"]]
        keys = [key for key in leaves if len({repr(other.get(key)) for other in same}) > 1]
        differing.append({key.removeprefix("estimator."): leaves[key] for key in keys})
    return differing


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}{key}.")
    else:
        yield prefix[:-1], node


def write_tables(folder: Path, rows: Sequence[Row]) -> None:
    """Write gradients.csv, a line a row, and per_bit.csv, a line for each bit of each row."""
    names = ("label", "estimator", "reference", "exactness")
    summaries = [
        {name: getattr(row, name) for name in names}
        | {name: v for name, v in vars(row.measurement).items() if name not in TENSORS}
        for row in rows
    ]
    bits = [
        {"label": row.label, "reference": row.reference, "example": i, "bit": j}
        | {name: getattr(row.measurement, name)[i, j].item() for name in TENSORS}
        for row in rows
        for i, j in np.ndindex(*row.measurement.exact.shape)
    ]
    for name, table in (("gradients.csv", summaries), ("per_bit.csv", bits)):
        write_atomically(folder / name, pd.DataFrame(table).to_csv(index=False, na_rep="nan"))
