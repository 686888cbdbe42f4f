"""Measurements of many configurations: what `stelab gradients` runs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from stelab.annealing import advance
from stelab.engine.config import build
from stelab.engine.files import write_atomically
from stelab.estimators import Estimator
from stelab.lab.gradients.exact import Enumeration
from stelab.lab.gradients.measure import Measurement, adapt, measure, references
from stelab.lab.training.isolation import isolated

TENSORS = ("mean", "variances", "exact")


@dataclass(frozen=True)
class Row:
    """One estimator against one reference.

    Attributes:
        label: The estimator's name, with the hyperparameters in which it differs from others.
        estimator: Its name.
        swept: The values in which rows of this estimator differ, by key.
        reference: ``"logistic"`` or ``"own"``, see `stelab.lab.gradients.measure.references`.
        exactness: What is claimed of it.
        measurement: The numbers.
    """

    label: str
    estimator: str
    swept: dict[str, Any]
    reference: str
    exactness: str
    measurement: Measurement


def measure_all(jobs: Sequence[DictConfig]) -> list[Row]:
    """Measure every configuration; the result of one does not depend on the others.

    Returns:
        Rows, the smallest mean squared error first.

    Raises:
        InputError: A problem or an estimator cannot be built, or a gradient is 0.
    """
    estimators = [_build_estimator(cfg) for cfg in jobs]  # all mistakes before the first number
    enumerations: dict[str, Enumeration] = {}
    rows = []
    todo = zip(jobs, estimators, differences(jobs), strict=True)
    bar = Console(stderr=True)
    hidden = not bar.is_terminal
    for cfg, estimator, swept in track(todo, total=len(jobs), console=bar, disable=hidden):
        key = json.dumps(OmegaConf.to_container(cfg.problem, resolve=True), sort_keys=True)
        if key not in enumerations:
            enumerations[key] = Enumeration(build(cfg.problem))
        label = " ".join([cfg.names.estimator, *(f"{k}={v}" for k, v in swept.items())])
        for reference, found in _measure_one(cfg, estimator, enumerations[key]).items():
            exactness = estimator.exactness
            rows.append(Row(label, cfg.names.estimator, swept, reference, exactness, found))
    return sorted(rows, key=lambda row: row.measurement.mse)


def _build_estimator(cfg: DictConfig) -> Estimator:
    with isolated(cfg.seed, threads=torch.get_num_threads()):
        estimator: Estimator = build(cfg.estimator)
    advance(estimator, cfg.progress)
    return estimator


def _measure_one(
    cfg: DictConfig, estimator: Estimator, enumeration: Enumeration
) -> dict[str, Measurement]:
    generator = torch.Generator().manual_seed(cfg.seed)
    laws = references(estimator)
    exact = {name: enumeration.gradient(law) for name, law in laws.items()}
    adapt(estimator, enumeration, steps=cfg.adapt, generator=generator)
    return measure(estimator, enumeration, exact, samples=cfg.samples, generator=generator)


def differences(jobs: Sequence[DictConfig]) -> list[dict[str, Any]]:
    """Return, for every job, the keys in which it differs from jobs of the same estimator."""
    flat = [dict(_leaves(OmegaConf.to_container(cfg, resolve=False))) for cfg in jobs]
    found = []
    for mine in flat:
        same = [f for f in flat if f["names.estimator"] == mine["names.estimator"]]
        keys = [key for key in mine if len({repr(other.get(key)) for other in same}) > 1]
        found.append({key.removeprefix("estimator."): mine[key] for key in keys})
    return found


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}{key}.")
    else:
        yield prefix[:-1], node


def write_tables(folder: Path, rows: Sequence[Row]) -> None:
    """Write gradients.csv, a line a row, and per_bit.csv, a line for each bit of each row."""
    lines = [
        {
            "label": row.label,
            "estimator": row.estimator,
            "reference": row.reference,
            "exactness": row.exactness,
            **{k: v for k, v in vars(row.measurement).items() if k not in TENSORS},
        }
        for row in rows
    ]
    bits = [
        {"label": row.label, "reference": row.reference, "example": i, "bit": j, **values}
        for row in rows
        for (i, j), values in _entries(row.measurement)
    ]
    for name, table in (("gradients.csv", lines), ("per_bit.csv", bits)):
        text = io.StringIO()
        writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        write_atomically(folder / name, text.getvalue())


def _entries(found: Measurement) -> Iterator[tuple[tuple[int, int], dict[str, float]]]:
    tensors = {name: getattr(found, name).tolist() for name in TENSORS}
    examples, bits = found.exact.shape
    for i in range(examples):
        for j in range(bits):
            yield (i, j), {name: values[i][j] for name, values in tensors.items()}
