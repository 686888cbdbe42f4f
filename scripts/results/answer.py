"""``docs/which-estimator.md``: what the ablations say, each sentence from its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from results.ablations import COSINE, RATE, TASKS, VARIANCE, Ablation, read_ablations
from results.everywhere import what_holds_everywhere
from results.findings import (
    what_is_surprising,
    what_to_use,
    what_was_not_tried,
)
from results.measured import read_runs
from results.page import tidy

_BASELINES = ", ".join(dict.fromkeys(task.baseline for task in TASKS))
_HEAD = f"""\
# Which estimator?

Written by `scripts/write_results` from `results/which_estimator*`: run it again, do not edit.

Every estimator at its own learning rate, the one of a grid that suits one seed's validation images
best (`results/NAME_lr`, at threshold 0; where it was an end of the grid, rates beyond it were tried
as well), then five or ten seeds each, judged on test images that chose nothing. Nothing else is
tuned: temperatures, slopes and the like are those of `conf/estimator/`.

Brackets are intervals of 95 %, each for itself. *Better* and *worse* are of paired differences to
the task's baseline ({_BASELINES}), the row without one: p below 0.05 after
Holm's correction for all rows of the table, and with any one seed left out, too; in parentheses
where not with each. What has no word is not shown to differ, and may. Sentences are of threshold 0,
unless they say another.

*Time* is that of the quickest of its runs, relative to the baseline's quickest, two at once, and
with the looks at gradients where there is a cosine. *Cosine* and *variance* are of gradients while
training: the cosine between the exact one and the mean of 200 draws, which of an unbiased estimator
is below 1 by its variance alone, and the variance relative to the exact one's square. What an
estimator learns in order to vary less it learns for a look in 20 steps, so that of a network
(relax, reinforce_learned) the variance in training may be another.
"""
_SECTIONS: dict[str, Callable[[Ablation], Iterator[str]]] = {
    "What may surprise": what_is_surprising,
    "What to use": what_to_use,
}


def answer(ablations: list[Ablation]) -> str:
    """Return the page's Markdown."""
    lines = [_HEAD]
    if short := [f"- {sentence}" for sentence in what_holds_everywhere(ablations)]:
        lines += ["## In short\n", *short, ""]
    for title, sentences in _SECTIONS.items():
        lines.append(f"## {title}\n")
        for ablation in ablations:
            link = ablation.task.title.lower().replace(" ", "-")
            lines.append(f"[{ablation.task.title}](#{link}):\n")
            lines += [*(f"- {sentence}" for sentence in sentences(ablation)), ""]
    for ablation in ablations:
        task = ablation.task
        lines += [
            f"## {task.title}\n",
            f"{task.about}\n",
            f"```bash\nstelab train experiment={task.name}\n```\n",
        ]
        looks = f" Cosine and variance are of {task.part}." if task.part else ""
        seeds = f"Seeds {ablation.seeds[0]} to {ablation.seeds[-1]}."
        lines += [f"{seeds}{looks}\n", *_table(ablation), ""]
        lines += [f"{sentence}\n" for sentence in what_was_not_tried(ablation)]
    return "\n".join(lines)


def write_answer(root: Path) -> None:
    """Write the page, unless nothing was run, and the tables of runs."""
    for name in (f"{task.name}{end}" for task in TASKS for end in ("", "_lr")):
        folder = root / "results" / name
        if (runs := read_runs(folder)) is not None:
            (folder / "runs.csv").write_text(tidy(runs), encoding="utf-8")
    if ablations := read_ablations(root):
        (root / "docs" / "which-estimator.md").write_text(answer(ablations), encoding="utf-8")


def _table(ablation: Ablation) -> Iterator[str]:
    """Yield the rows of an ablation's table."""
    digits, metric = ablation.task.digits, ablation.whole.metric
    keys = ["estimator", *ablation.task.also]
    by_group = ablation.whole.runs.groupby("group")
    rates = by_group[RATE].first()
    looks = [name for name in (COSINE, VARIANCE) if name in ablation.whole.runs]
    seen = by_group[looks].mean()
    columns = [*keys, "rate", metric, "difference", "", "time"]
    columns += [name.rpartition("/")[2] for name in looks]
    yield f"| {' | '.join(columns)} |"
    yield "|" + " --- |" * len(columns)
    for _, row in ablation.rows.iterrows():
        group = row["group"]
        cells = ["" if row[key] != row[key] else f"{row[key]}" for key in keys]
        cells.append(f"{rates[group]:g}")
        cells.append(_interval(row["mean"], row["low"], row["high"], digits))
        ends = (row["difference_low"], row["difference_high"])
        cells.append(_interval(row["difference"], *ends, digits, sign="+"))
        cells += [ablation.words.get(group, ""), f"{ablation.times[row['estimator']]:.1f}x"]
        cells += [_look(value, name) for name, value in seen.loc[group].items()]
        yield f"| {' | '.join(cells)} |"


def _look(value: float, name: object) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.2f}" if name == COSINE else f"{value:.2g}"


def _interval(mean: float, low: float, high: float, digits: int, sign: str = "") -> str:
    if np.isnan(mean):
        return "–"
    ends = (f"{end:{sign}.{digits}f}" for end in (low, high))
    return f"{mean:{sign}.{digits}f}" + ("" if np.isnan(low) else f" [{', '.join(ends)}]")
