"""What a step of stelab's has that the plain loop's has not, piece by piece."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stelab.engine.launchers.processes import jobs_at_once
from stelab.engine.studies import Run
from stelab.lab.bench.commands import quoted, words_of
from stelab.lab.bench.turns import Case, Sample, Values, run_python, spread, values_of

TITLE = "Pieces of a step"
PLAIN, OURS, STEP = "plain", "stelab", "step"
PIECES = {  # as `stelab.lab.bench.pieces` calls them
    "layer": "threshold and estimator, forward and backward, with NaN handed on",
    "loss": "a loss an example, not one a batch, forward and backward",
    "finite": "whether loss and pre-activations are finite",
    "means": "the epoch's means of loss and metrics",
}


def about(cfg: Any) -> str:
    """Say what the tables show."""
    return """\
Microseconds of a batch, each piece by itself in a process that does nothing else, beside what the
plain loop has in its place; *of its step*: the difference, of a whole step of the plain loop. What
`stelab train` takes beyond them is Lightning's optimizer step, the loop, monitors and logs."""


def cases(cfg: Any, run: Run) -> Iterator[Case]:
    """Yield what is measured of each setting at each number of threads."""
    for setting in cfg.settings:
        for threads in cfg.threads or sorted({1, jobs_at_once(1)}):
            group = f"{setting} threads={threads}"
            yield Case("profile", group, "pieces", partial(_pieces, cfg, threads, setting))


def _pieces(cfg: Any, threads: int, setting: str, folder: Path) -> Values:
    datasets = f"paths.datasets={quoted(str(cfg.paths.datasets))}"
    arguments = (str(threads), str(cfg.seconds), *words_of(setting), datasets)
    _, out = run_python("-m", "stelab.lab.bench.pieces", *arguments)
    values: Values = json.loads(out)
    return values


def tables(samples: Sequence[Sample]) -> Iterator[str]:
    """Yield a table for each setting and number of threads."""
    for group in dict.fromkeys(sample.group for sample in samples):
        of = partial(values_of, samples, group, "pieces")
        steps = of(f"{STEP} {PLAIN}")
        yield f"### `{group}`\n\nA step of the plain loop: {spread(steps)} us.\n"
        yield "| | stelab, us | plain, us | of its step |"
        yield "| --- " * 4 + "|"
        totals = [0.0] * len(steps)
        for piece, title in PIECES.items():
            ours, plain = of(f"{piece} {OURS}"), of(f"{piece} {PLAIN}")
            shares = [
                (a - b) / step
                for a, b, step in zip(ours, plain or [0.0] * len(ours), steps, strict=True)
            ]
            totals = [total + share for total, share in zip(totals, shares, strict=True)]
            cells = [title, spread(ours), spread(plain), spread(shares, 1, times=100, unit=" %")]
            yield f"| {' | '.join(cells)} |"
        yield f"| all of them | | | {spread(totals, 1, times=100, unit=' %')} |"
        yield ""
