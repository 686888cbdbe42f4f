"""What passes before a first step, and what a job costs whatever it trains."""

import json
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stelab.engine.studies import Run
from stelab.lab.bench.commands import clock, train
from stelab.lab.bench.turns import Case, Sample, Values, run_python, spread, values_of

TITLE = "Start"
FIRST_STEP, JOB, SWEEP = "stelab train debug=fast", "a job", "a job and others"
MORE = 5  # jobs than one
_JOB = ("-m", "debug=fast", "model=mlp", "++trainer.max_steps=1")


def about(cfg: Any) -> str:
    """Say what the table shows."""
    return f"""\
Seconds from the start of a process, and of a processor. *a job more*: in a sweep of jobs of one
step, by the difference between sweeps of 1 and of {1 + MORE}. *planned*: with `dry_run=true`."""


def cases(cfg: Any, run: Run) -> Iterator[Case]:
    """Yield what is measured."""
    case = partial(Case, "start", "start")
    for name, arguments in (
        ("python", ("-c", "pass")),
        ("import torch", ("-c", "import torch")),
        ("import pytorch_lightning", ("-c", "import pytorch_lightning")),
        ("stelab --help", ("-m", "stelab", "--help")),
        ("stelab train --help", ("-m", "stelab", "train", "--help")),
    ):
        yield case(name, partial(_process, arguments))
    yield case(FIRST_STEP, partial(_first_step, cfg))
    yield case(JOB, partial(_train, cfg, (*_JOB, "seed=0")))
    yield case(SWEEP, partial(_train, cfg, (*_JOB, f"seed=range({1 + MORE})")))
    many = ("-m", "debug=fast", "model=mlp", f"seed=range({cfg.planned})", "dry_run=true")
    yield case(f"{cfg.planned:,} jobs planned", partial(_train, cfg, many))


def _process(arguments: Sequence[str], folder: Path) -> Values:
    return run_python(*arguments)[0]


def _train(cfg: Any, overrides: Sequence[str], folder: Path) -> Values:
    return run_python(*train(cfg, folder, *overrides))[0]


def _first_step(cfg: Any, folder: Path) -> Values:
    file, started = folder / "clock.json", time.time()
    values = _train(cfg, ("debug=fast", *clock(file, seconds=cfg.seconds)), folder)
    first = json.loads(file.read_text(encoding="utf-8"))["first_step"]
    return {**values, "first_step_s": first - started}


def tables(samples: Sequence[Sample]) -> Iterator[str]:
    """Yield a row for each."""
    of = partial(values_of, samples, "start")
    yield "| | seconds | of a processor |"
    yield "| --- | --- | --- |"
    for name in dict.fromkeys(sample.name for sample in samples):
        if name == SWEEP:
            continue
        if name == FIRST_STEP:
            yield f"| `{name}`: first step | {spread(of(name, 'first_step_s'), 2)} | |"
        both = (spread(of(name, key), 2) for key in ("seconds", "cpu_s"))
        yield f"| `{name}` | {' | '.join(both)} |"
    more = (
        spread([(b - a) / MORE for a, b in zip(of(JOB, key), of(SWEEP, key), strict=False)], 2)
        for key in ("seconds", "cpu_s")
    )
    yield f"| a job more | {' | '.join(more)} |"
