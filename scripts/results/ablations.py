"""Ablations of estimators: each at its own learning rate, all seeds, compared with a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from results.measured import ARCHIVE, read_runs
from stelab.engine.comparison import Comparison, compare
from stelab.engine.studies import Study, load

RATE = "optimizer.lr"
COSINE = "gradients/own/cosine"


@dataclass(frozen=True)
class Task:
    """What an ablation is of.

    Attributes:
        name: Of the experiment.
        title: For the page.
        baseline: What the others are compared with.
        digits: Behind the point.
        also: Other settings that the table has, beside the estimator.
    """

    name: str
    title: str
    baseline: str
    digits: int
    also: tuple[str, ...] = ()


TASKS = (
    Task(
        "which_estimator",
        "An autoencoder of 512 bits",
        "identity",
        4,
        ("threshold", "threshold.value"),
    ),
    Task("which_estimator_small", "An autoencoder of 8 bits", "identity", 4, ("threshold.value",)),
    Task("which_estimator_classify", "A binary classifier", "clipped_input", 4),
    Task("which_estimator_vae", "A Bernoulli VAE of 64 bits", "bernoulli_st", 2),
)


@dataclass(frozen=True)
class Ablation:
    """Runs of one task, compared."""

    task: Task
    study: Study
    rates: pd.DataFrame  # of the search: all runs

    @cached_property
    def whole(self) -> Comparison:
        """Return the comparison of all seeds."""
        return self._compare(None)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Return a row a group, best first, of the metric that it is judged by."""
        return self.whole.rows(self.whole.metric)

    @property
    def better_sign(self) -> int:
        """Return 1 where higher values are better, else -1."""
        return 1 if self.whole.better == "higher" else -1

    @cached_property
    def seeds(self) -> list[int]:
        """Return all seeds."""
        return sorted(self.study.finished["seed"].unique().tolist())

    @cached_property
    def words(self) -> dict[str, str]:
        """Return what is said of each group: ``"better"``, ``"worse"`` or nothing."""
        parts = [
            self._compare("seed=" + ",".join(str(s) for s in self.seeds if s != left_out))
            for left_out in self.seeds
        ]
        found = [_words(comparison) for comparison in (self.whole, *parts)]
        return {
            group: word if all(other.get(group) == word for other in found) else ""
            for group, word in found[0].items()
        }

    @cached_property
    def times(self) -> pd.Series[float]:
        """Return, by group, the median time of a run relative to the baseline's."""
        seconds = self.whole.runs.groupby("group")["timings.seconds"].median()
        baselines = self.rows.set_index("group")["baseline"]
        own = seconds.index.map(lambda group: baselines[group] or group)
        return seconds / seconds.reindex(own).to_numpy()

    @cached_property
    def first(self) -> pd.DataFrame:
        """Return the rows of the settings, beside the estimator, that come first: threshold 0."""
        rows = self.rows
        for key in self.task.also:
            rows = rows[rows[key] == rows[key].dropna().min()]
        return rows

    def _compare(self, where: str | None) -> Comparison:
        baseline = f"estimator={self.task.baseline}"
        by = ["estimator", *self.task.also]
        return compare(self.study, by=by, baseline=baseline, where=where)


def read_ablations(root: Path) -> list[Ablation]:
    """Read those of `TASKS` that were run."""
    found = []
    for task in TASKS:
        folder, search = (root / "results" / f"{task.name}{end}" for end in ("", "_lr"))
        if (folder / ARCHIVE).exists() and (rates := read_runs(search)) is not None:
            found.append(Ablation(task, load(folder / ARCHIVE), rates.table))
    return found


def _words(comparison: Comparison) -> dict[str, str]:
    lower = comparison.better == "lower"
    rows = comparison.rows(comparison.metric)
    return {
        row["group"]: ("better" if (row["difference"] < 0) == lower else "worse")
        if row["significant"]
        else ""
        for _, row in rows.iterrows()
    }
