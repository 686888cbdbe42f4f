"""Ablations of estimators: each at its own learning rate, all seeds, compared with a baseline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from results.measured import ARCHIVE, read_runs
from stelab.engine.comparison import Comparison, compare
from stelab.engine.studies import Study, load

RATE = "optimizer.lr"
COSINE, VARIANCE = "gradients/own/cosine", "gradients/own/variance"


@dataclass(frozen=True)
class Task:
    """What an ablation is of.

    Attributes:
        name: Of the experiment.
        title: For the page.
        about: What is trained, and judged by what.
        baseline: What the others are compared with.
        digits: Behind the point.
        also: Other settings that the table has, beside the estimator.
        part: Of the code, whose gradients were looked at, where it was not the whole.
    """

    name: str
    title: str
    about: str
    baseline: str
    digits: int
    also: tuple[str, ...] = ()
    part: str = ""


_ERROR = "squared error of normalized pixels of 10,000 test images, the lower the better"
TASKS = (
    Task(
        "which_estimator",
        "An autoencoder of 512 bits",
        "A hidden layer of 512 before and after the bits, five epochs of batches of 256 in "
        f"bfloat16; {_ERROR}.",
        "identity",
        4,
        ("threshold", "threshold.value"),
        "8 of the bits, the others held",
    ),
    Task(
        "which_estimator_small",
        "An autoencoder of 8 bits",
        "A hidden layer of 64 before and after the bits, one epoch of batches of 64, so that the "
        f"best is also the quickest; {_ERROR}.",
        "identity",
        4,
        ("threshold.value",),
    ),
    Task(
        "which_estimator_classify",
        "A binary classifier",
        "Ten classes, by two layers of 256 binary activations, whose estimator is the row's, and "
        "binary weights, whose estimator is clipped_input in all rows; five epochs of batches of "
        "256; share of 10,000 test images that it tells right, the higher the better.",
        "clipped_input",
        4,
    ),
    Task(
        "which_estimator_vae",
        "A Bernoulli VAE of 64 bits",
        "A hidden layer of 200 before and after the bits, pixels drawn anew every epoch, five "
        "epochs of batches of 256; negative ELBO of 10,000 test images in nats, the lower the "
        "better.",
        "bernoulli_st",
        2,
    ),
)
_LEAST_SEEDS = 3


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
        """Return what is said of each group: ``"better"``, ``"worse"`` or nothing.

        In parentheses where it is significant, but not with each one seed left out.
        """
        parts = [
            self._compare("seed=" + ",".join(str(s) for s in self.seeds if s != left_out))
            for left_out in self.seeds
        ]
        whole, *others = [_words(comparison) for comparison in (self.whole, *parts)]
        return {
            group: word if all(o.get(group) == word for o in others) or not word else f"({word})"
            for group, word in whole.items()
        }

    @cached_property
    def times(self) -> pd.Series[float]:
        """Return, by estimator, the time of its quickest run relative to the baseline's quickest.

        What else the machine did slows some runs, and makes none quicker.
        """
        seconds = self.whole.runs.groupby("estimator")["timings.seconds"].min()
        return seconds / seconds[self.task.baseline]

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
    """Read those of `TASKS` that were run, of each the seeds that all rows have."""
    found = []
    for task in TASKS:
        folder, search = (root / "results" / f"{task.name}{end}" for end in ("", "_lr"))
        if not (folder / ARCHIVE).exists() or (rates := read_runs(search)) is None:
            continue
        study = of_whole_seeds(load(folder / ARCHIVE), rates.table, task)
        if study.finished["seed"].nunique() >= _LEAST_SEEDS:
            found.append(Ablation(task, study, rates.table))
    return found


def of_whole_seeds(study: Study, rates: pd.DataFrame, task: Task) -> Study:
    """Return the study without seeds of which a row, of an estimator of the search, is missing."""
    settings = len(study.finished[[*task.also]].drop_duplicates()) if task.also else 1
    rows = settings * rates["names.estimator"].nunique()
    counts = study.finished.groupby("seed").size()
    whole = counts.index[counts == rows]
    return replace(study, runs=study.runs[study.runs["seed"].isin(whole)])


def _words(comparison: Comparison) -> dict[str, str]:
    lower = comparison.better == "lower"
    rows = comparison.rows(comparison.metric)
    return {
        row["group"]: ("better" if (row["difference"] < 0) == lower else "worse")
        if row["significant"]
        else ""
        for _, row in rows.iterrows()
    }
