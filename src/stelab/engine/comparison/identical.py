"""Settings whose runs are the same, number by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from stelab.engine.comparison.groups import Group
from stelab.engine.project import project


@dataclass(frozen=True)
class Identical:
    """Two or more groups whose replicates have the same losses and codes in every epoch."""

    labels: tuple[str, ...]
    reason: str

    @property
    def label(self) -> str:
        """Return e.g. ``"identity = hardtanh_clip"``, naming what they share once."""
        heads = [label.partition(", ") for label in self.labels]
        tails = {tail for _, _, tail in heads}
        if len(tails) > 1:
            return " = ".join(self.labels)
        names, (tail,) = " = ".join(head for head, _, _ in heads), tails
        return f"{names}, {tail}" if tail else names

    def __str__(self) -> str:
        return f"{self.label}: {self.reason}"


def find_identical(groups: Sequence[Group], curves: pd.DataFrame) -> list[Identical]:
    """Find groups with the same replicates and, for each, the same curves bit by bit."""
    if curves.empty:
        return []
    compared = sorted(name for name in curves.columns if name.startswith(project().results))
    by_run = dict(list(curves.sort_values("epoch").groupby(["study", "run"], sort=False)))
    same: dict[frozenset[tuple[object, ...]], list[Group]] = {}
    for group in groups:
        numbers = frozenset(
            (
                row["replicate"],
                row.reindex(compared).to_numpy(dtype=float).tobytes(),
                by_run[row["study"], row["run"]][compared].to_numpy(dtype=float).tobytes(),
            )
            for _, row in group.runs.iterrows()
        )
        same.setdefault(numbers, []).append(group)
    return [
        Identical(tuple(group.label for group in several), _reason(several, by_run))
        for several in same.values()
        if len(several) > 1
    ]


def _reason(groups: Sequence[Group], by_run: Mapping[object, pd.DataFrame]) -> str:
    """Name the metric by which such runs would differ from others, where it is always 0."""
    rows = [row for group in groups for _, row in group.runs.iterrows()]
    effects = {row.get("effect") for row in rows if isinstance(row.get("effect"), str)}
    tables = [by_run[row["study"], row["run"]] for row in rows]
    for name in sorted(effects):
        others = any(row.get("effect") != name for row in rows)
        if others and all(name in table and (table[name] == 0).all() for table in tables):
            return f"{name.rpartition('/')[2]} 0 in every epoch"
    return "the same losses and codes in every epoch"
