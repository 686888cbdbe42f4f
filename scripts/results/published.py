"""What others published: a table a folder of ``results/``, and what is to be said about it."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_COLUMNS = ("seed", "epoch", "best_of", "metric", "value", "sd", "n", "within", "source")


@dataclass(frozen=True)
class Published:
    """A published number: a row of ``published.csv``.

    Attributes:
        setting: Keys of a run's configuration and their values.
        metric: Which number of such runs it is.
        value: The number itself, NaN where none could be verified.
        sd: Standard deviation over the seeds, NaN if that is not known.
        n: Seeds, 0 if that is not known.
        digits: Behind the point, of the number as it was published.
        within: The largest difference at which ours counts as the same.
        seed: Of one run alone; None for the mean over seeds.
        epoch: After which it was; None: at the end.
        best_of: A key that is no part of the setting: the number is of that one of its values which
            has the least mean. None: of all runs.
        source: Where it stands.
    """

    setting: dict[str, str | float]
    metric: str
    value: float
    sd: float
    n: int
    digits: int
    within: float
    seed: int | None
    epoch: int | None
    best_of: str | None
    source: str


@dataclass(frozen=True)
class About:
    """``about.yaml``: what a reader is told of an experiment, beside its numbers.

    Attributes:
        title: What it is.
        text: The source and its settings, what was shortened, in Markdown.
        unit: Of the numbers.
        digits: Digits behind the point.
        curves: The metrics that are drawn over epochs; empty for no picture.
        notes: Findings and reasons of differences, in Markdown.
        orders: What is less than what, see `results.orders.Order`.
    """

    title: str
    text: str
    unit: str
    digits: int
    curves: list[str]
    notes: list[str]
    orders: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class LeftOut:
    """Of ``left_out.yaml``: a work that was looked at, and why it is not reproduced."""

    work: str
    reason: str


def read_left_out(root: Path) -> list[LeftOut]:
    """Read ``results/left_out.yaml``."""
    text = (root / "results" / "left_out.yaml").read_text(encoding="utf-8")
    return [LeftOut(**entry) for entry in yaml.safe_load(text)]


def read_about(folder: Path) -> About:
    """Read ``about.yaml``."""
    return About(**yaml.safe_load((folder / "about.yaml").read_text(encoding="utf-8")))


def read_published(folder: Path) -> list[Published]:
    """Read ``published.csv``; columns that are none of `Published` are keys of the setting."""
    with (folder / "published.csv").open(encoding="utf-8", newline="") as file:
        return [_published(row) for row in csv.DictReader(file)]


def _published(row: dict[str, str]) -> Published:
    return Published(
        setting={key: _typed(text) for key, text in row.items() if key not in _COLUMNS and text},
        metric=row["metric"],
        value=float(row["value"] or math.nan),
        sd=float(row["sd"] or math.nan),
        n=int(row["n"] or 0),
        digits=len(row["value"].partition(".")[2]),
        within=float(row["within"]),
        seed=int(row["seed"]) if row["seed"] else None,
        epoch=int(row["epoch"]) if row["epoch"] else None,
        best_of=row.get("best_of") or None,
        source=row["source"],
    )


def _typed(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def written(value: str | float) -> str:
    """Write a value of a setting."""
    return value if isinstance(value, str) else f"{value:g}"
