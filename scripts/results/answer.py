"""``docs/which-estimator.md``: what the ablations say, each sentence from its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from results.measured import ARCHIVE, Runs, read_runs
from results.page import tidy
from results.rates import CRITERIA, at_an_end
from stelab.engine.comparison import Comparison, compare
from stelab.engine.studies import Study, load

_HEAD = """\
# Which estimator?

Written by `scripts/write_results` from `results/which_estimator*`: run it again, do not edit.

Every estimator at the learning rate that suits it, chosen by the validation split of one seed
(`results/NAME_lr`), then five seeds each, judged on test images that chose nothing. *Better* and
*worse* are of paired differences to the baseline, the row without one: p below 0.05 after Holm's
correction for all rows of the table, and only where that holds with any one seed left out, too.
*Time* is that of a run relative to the baseline's, median over seeds; two ran side by side.
"""

_RATE = "optimizer.lr"


@dataclass(frozen=True)
class Task:
    """What an ablation is of.

    Attributes:
        name: Of the experiment.
        title: For the page.
        baseline: What the others are compared with.
        digits: Behind the point.
        also: Another setting that the table has, beside the estimator.
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
    Task(
        "which_estimator_small",
        "An autoencoder of 8 bits, and the exact gradient",
        "identity",
        4,
        ("threshold.value",),
    ),
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

    def _compare(self, where: str | None) -> Comparison:
        baseline = f"estimator={self.task.baseline}"
        by = ["estimator", *self.task.also]
        return compare(self.study, by=by, baseline=baseline, where=where)

    @cached_property
    def words(self) -> dict[str, str]:
        """Return what is said of each group: ``"better"``, ``"worse"`` or nothing."""
        seeds = sorted(self.study.finished["seed"].unique())
        parts = [
            self._compare("seed=" + ",".join(str(s) for s in seeds if s != left_out))
            for left_out in seeds
        ]
        found = [_words(comparison) for comparison in (self.whole, *parts)]
        return {
            group: word if all(other.get(group) == word for other in found) else ""
            for group, word in found[0].items()
        }

    def table(self) -> Iterator[str]:
        """Yield the rows of the page's table."""
        digits, metric = self.task.digits, self.whole.metric
        keys = ["estimator", *self.task.also]
        runs = self.whole.runs
        seconds = runs.groupby("group")["timings.seconds"].median()
        rates = runs.groupby("group")[_RATE].first()
        cosine = "gradients/own/cosine"
        yield f"| {' | '.join([*keys, 'rate', metric, 'difference', '', 'time'])}" + (
            " | cosine |" if cosine in runs else " |"
        )
        yield "|" + " --- |" * (len(keys) + 5 + (cosine in runs))
        for _, row in self.whole.rows(metric).iterrows():
            group = row["group"]
            base = seconds.get(row["baseline"] or group, np.nan)
            cells = ["" if pd.isna(row[key]) else f"{row[key]}" for key in keys]
            cells.append(f"{rates[group]:g}")
            cells.append(_interval(row["mean"], row["low"], row["high"], digits))
            cells.append(
                _interval(
                    row["difference"],
                    row["difference_low"],
                    row["difference_high"],
                    digits,
                    sign="+",
                )
            )
            cells += [self.words.get(group, ""), f"{seconds[group] / base:.1f}x"]
            if cosine in runs:
                cells.append(f"{runs.loc[runs['group'] == group, cosine].mean():.2f}")
            yield f"| {' | '.join(cells)} |"

    def sentences(self) -> Iterator[str]:
        """Yield what the table says."""
        rows, digits = self.whole.rows(self.whole.metric), self.task.digits
        best, baselines = rows.iloc[0], rows[rows["group"] == rows["baseline"]]
        baseline = baselines.iloc[0]
        place = 1 + rows["group"].tolist().index(baseline["group"])
        counts = pd.Series(list(self.words.values())).value_counts()
        yield (
            f"Of {len(rows)}, {best['group']} has the best mean, {best['mean']:.{digits}f}; "
            f"{baseline['group']} is number {place}, at {baseline['mean']:.{digits}f}."
        )
        alike = counts.get("", 0) - len(baselines)
        yield (
            f"{counts.get('better', 0)} are better than {self.task.baseline}, "
            f"{counts.get('worse', 0)} worse; {alike} cannot be told from it."
        )
        yield from self._of_rates()
        criterion, sign, _ = CRITERIA[self.task.name]
        rates = Runs(self.rates, [*self.rates], self.rates)
        if names := at_an_end(rates, criterion, sign):
            yield (
                f"The rates of {', '.join(names)} are the least or the largest that were tried: "
                "others might suit better."
            )

    def _of_rates(self) -> Iterator[str]:
        """Say what a rate that was not chosen costs, beside another estimator."""
        criterion = self.whole.metric.replace("test/", "val/")
        table = self.rates.pivot_table(index="names.estimator", columns=_RATE, values=criterion)
        best, worst = (
            (table.min(axis=1), table.max(axis=1))
            if self.whole.better == "lower"
            else (table.max(axis=1), table.min(axis=1))
        )
        own, digits = (worst - best).abs().median(), self.task.digits
        others = (best - best.median()).abs().median()
        yield (
            f"The worst of the rates {', '.join(f'{rate:g}' for rate in table)} in place of an "
            f"estimator's own moves {criterion} by {own:.{digits}f} (median over estimators), "
            f"another estimator at its own rate by {others:.{digits}f} (median distance from the "
            "median)."
        )


def read_ablations(root: Path) -> list[Ablation]:
    """Read those of `TASKS` that were run."""
    found = []
    for task in TASKS:
        folder, search = (root / "results" / f"{task.name}{end}" for end in ("", "_lr"))
        if (folder / ARCHIVE).exists() and (rates := read_runs(search)) is not None:
            found.append(Ablation(task, load(folder / ARCHIVE), rates.table))
    return found


def answer(ablations: list[Ablation]) -> str:
    """Return the page's Markdown."""
    lines = [_HEAD]
    for ablation in ablations:
        task = ablation.task
        lines += [f"## {task.title}\n", f"```bash\nstelab train experiment={task.name}\n```\n"]
        lines += [f"- {sentence}" for sentence in ablation.sentences()]
        lines += ["", *ablation.table(), ""]
    return "\n".join(lines)


def write_answer(root: Path) -> None:
    """Write the page, unless nothing was run, and the tables of runs."""
    for name in (f"{task.name}{end}" for task in TASKS for end in ("", "_lr")):
        folder = root / "results" / name
        if (runs := read_runs(folder)) is not None:
            (folder / "runs.csv").write_text(tidy(runs), encoding="utf-8")
    if ablations := read_ablations(root):
        (root / "docs" / "which-estimator.md").write_text(answer(ablations), encoding="utf-8")


def _words(comparison: Comparison) -> dict[str, str]:
    lower = comparison.better == "lower"
    rows = comparison.rows(comparison.metric)
    return {
        row["group"]: ("better" if (row["difference"] < 0) == lower else "worse")
        if row["significant"]
        else ""
        for _, row in rows.iterrows()
    }


def _interval(mean: float, low: float, high: float, digits: int, sign: str = "") -> str:
    if np.isnan(mean):
        return "–"
    ends = (f"{end:{sign}.{digits}f}" for end in (low, high))
    return f"{mean:{sign}.{digits}f}" + ("" if np.isnan(low) else f" [{', '.join(ends)}]")
