"""The page: a table of all experiments, then each with its numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from results.measured import Runs, Verdict, judge, read_runs
from results.orders import Order, orders_table
from results.pictures import DPI, draw_curves
from results.published import (
    About,
    LeftOut,
    Published,
    read_about,
    read_left_out,
    read_published,
    written,
)

_INTRODUCTION = """\
# Results

Written by `scripts/write_results` from `results/`: run it again, do not edit.

Published numbers, and what stelab gives for the same settings: `results/NAME/published.csv` holds
the former with their sources, `results/NAME/runs.tar.xz` the configuration, record and curves of
every run of ours, which `stelab compare study=results/NAME/runs.tar.xz` reads. Each experiment is
one command, `stelab train experiment=NAME`; `scripts/reproduce_results.sh NAME` trains it again and
compares with what is stored.

*Reproduced*: the mean of ours is as near as the column *within* says. *Measured*: no published
number could be verified. Brackets hold the 95 % interval of the difference (Welch), where the
spread of both is known. *In order*: the 95 % interval of the differences between the same seeds is
above 0.
"""


@dataclass(frozen=True)
class Experiment:
    """A folder of ``results/``."""

    name: str
    about: About
    published: list[Published]
    runs: Runs | None

    @property
    def orders(self) -> list[Order]:
        """Return what was published to be less than what."""
        return [Order(**order) for order in self.about.orders]

    def verdicts(self) -> list[Verdict]:
        """Judge every published number."""
        return [judge(published, self.runs) for published in self.published]


def read_experiments(root: Path) -> list[Experiment]:
    """Read all folders of ``results/`` that have published numbers, by their names."""
    return [
        Experiment(
            path.parent.name,
            read_about(path.parent),
            read_published(path.parent),
            read_runs(path.parent),
        )
        for path in sorted((root / "results").glob("*/published.csv"))
    ]


def write_results(root: Path) -> None:
    """Write ``docs/results.md``, ``docs/results/NAME.png`` and ``results/NAME/runs.csv``."""
    experiments = read_experiments(root)
    pictures = root / "docs" / "results"
    pictures.mkdir(parents=True, exist_ok=True)
    for path in pictures.iterdir():
        path.unlink()
    for experiment in experiments:
        if experiment.runs is not None:
            table = root / "results" / experiment.name / "runs.csv"
            table.write_text(tidy(experiment.runs), encoding="utf-8")
        if figure := draw(experiment):
            # Not the version of matplotlib, which it would write by itself.
            metadata = {"Software": None}
            figure.savefig(pictures / f"{experiment.name}.png", dpi=DPI, metadata=metadata)
    text = page(experiments, read_left_out(root))
    (root / "docs" / "results.md").write_text(text, encoding="utf-8")


def tidy(runs: Runs) -> str:
    """Return the table of runs as CSV, without what says where they lie."""
    own = [name for name in runs.own if name not in ("folder", "edited")]
    return str(runs.table[own].to_csv(index=False))


def draw(experiment: Experiment) -> Figure | None:
    """Draw an experiment's curves; None where there are none."""
    if experiment.runs is None or not experiment.about.curves:
        return None
    return draw_curves(experiment.published, experiment.runs, experiment.about.curves)


def page(experiments: Sequence[Experiment], left_out: Sequence[LeftOut]) -> str:
    """Return the page's Markdown."""
    sections = [*map(_section, experiments), _left_out(left_out)]
    return "\n".join([_INTRODUCTION, _overview(experiments), *sections])


def _overview(experiments: Sequence[Experiment]) -> str:
    lines = ["| experiment | | numbers | runs |", "| --- | --- | --- | --- |"]
    for experiment in experiments:
        counts = Counter(verdict.word for verdict in experiment.verdicts())
        words = ", ".join(f"{count} {word}" for word, count in counts.most_common())
        runs = 0 if experiment.runs is None else len(experiment.runs.table)
        link = f"[{experiment.name}](#{experiment.name})"
        lines.append(f"| {link} | {experiment.about.title} | {words} | {runs} |")
    return "\n".join([*lines, ""])


def _section(experiment: Experiment) -> str:
    about = experiment.about
    blocks = [f"## {experiment.name}\n", f"{about.title}. {about.text.strip()}\n"]
    blocks.append(f"```bash\nstelab train experiment={experiment.name}\n```\n")
    blocks.append(_table(experiment))
    blocks.append(orders_table(experiment.orders, experiment.runs, digits=about.digits))
    if experiment.runs is not None:
        if draw(experiment):
            alt = f"{', '.join(about.curves)} over epochs, a line a setting"
            blocks.append(f"![{alt}](results/{experiment.name}.png)\n")
        blocks.append(_provenance(experiment.runs))
    blocks += [f"- {note.strip()}" for note in about.notes]
    return "\n".join([*filter(None, blocks), ""])


def _left_out(works: Sequence[LeftOut]) -> str:
    lines = ["## Left out\n", "Looked at for numbers to reproduce, and not taken:\n"]
    return "\n".join([*lines, *(f"- {work.work}: {work.reason.strip()}" for work in works), ""])


def _table(experiment: Experiment) -> str:
    keys = list(dict.fromkeys(key for row in experiment.published for key in row.setting))
    digits = experiment.about.digits
    columns = [
        *keys,
        "metric",
        f"published, {experiment.about.unit}",
        "ours",
        "difference",
        "within",
        "",
    ]
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for row, verdict in zip(experiment.published, experiment.verdicts(), strict=True):
        if math.isnan(row.value) and verdict.word == "not run":  # there is no number at all
            continue
        cells = [written(row.setting.get(key, "")) for key in keys]
        cells += [_metric(row), _value(row.value, row.sd, row.n, row.digits)]
        cells += [_value(verdict.ours.mean, verdict.ours.std, verdict.ours.n, digits)]
        cells += [_difference(verdict, digits), f"{row.within:g}", verdict.word]
        lines.append(f"| {' | '.join(cells)} |")
    sources = "; ".join(dict.fromkeys(row.source for row in experiment.published if row.source))
    if len(lines) == 2:
        return ""
    return "\n".join([*lines, "", *([f"Published: {sources}.", ""] if sources else [])])


def _metric(row: Published) -> str:
    when = f" after epoch {row.epoch}" if row.epoch else ""
    return f"{row.metric}{when}{f', seed {row.seed}' if row.seed is not None else ''}"


def _value(mean: float, sd: float, n: int, digits: int) -> str:
    if math.isnan(mean):
        return "–"
    spread = "" if math.isnan(sd) else f" ± {sd:.{digits}f}"
    return f"{mean:.{digits}f}{spread}{f' (n = {n})' if n else ''}"


def _difference(verdict: Verdict, digits: int) -> str:
    if math.isnan(verdict.difference):
        return "–"
    text = f"{verdict.difference:+.{digits}f}"
    if math.isnan(verdict.low):
        return text
    return f"{text} [{verdict.low:+.{digits}f}, {verdict.high:+.{digits}f}]"


def _provenance(runs: Runs) -> str:
    """Say what made the runs, from their records."""
    table = runs.table
    machines = " and ".join(sorted(map(str, table["machine.processor"].dropna().unique())))
    versions = {
        name.removeprefix("versions."): ", ".join(sorted(map(str, table[name].dropna().unique())))
        for name in table
        if name.startswith("versions.")
    }
    threads = ", ".join(f"{n:g}" for n in sorted(table["machine.threads"].dropna().unique()))
    names = ", ".join(f"{name} {version}" for name, version in versions.items())
    time = hours(table)
    took = f"{time:.1f} hours" if time >= 1 else f"{60 * time:.0f} minutes"
    return (
        f"{len(table)} runs in {took}, beside other work; {machines}, threads a run: {threads}; "
        f"{names}.\n"
    )


def hours(table: pd.DataFrame) -> float:
    """Return the time in which one run or more was trained: stacks and neighbours count once."""
    times = table[["timings.started", "timings.ended"]].apply(pd.to_datetime)
    total, until = pd.Timedelta(0), times.min().min()
    for _, (start, end) in times.sort_values("timings.started").iterrows():
        total += max(end - max(start, until), pd.Timedelta(0))
        until = max(until, end)
    return total / pd.Timedelta(hours=1)
