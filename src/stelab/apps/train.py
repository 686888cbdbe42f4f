"""``stelab train``: one run, or a sweep."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from stelab.config.plan import Plan
from stelab.errors import InputError
from stelab.studies import read_run


def start(cfg: DictConfig) -> float:
    """Train; return the final value of the monitored metric, for sweepers."""
    from stelab.training import train

    finished = train(cfg)
    values = "  ".join(f"{k} {finished.metrics[k]:.4f}" for k in (cfg.monitor, "test/mse"))
    print(f"{finished.name}: {values}  ({finished.record['timings']['seconds']:.1f} s)", flush=True)
    return finished.metrics[cfg.monitor]


def execute(plan: Plan, launch: Callable[[], None]) -> None:
    """Check all jobs' objects and data, run the jobs, and sum up a sweep."""
    from stelab.training.run import check

    check(plan)
    states = [_state(Path(job.paths.run)) for job in plan.jobs]
    if plan.multirun or plan.jobs[0].dry_run:
        jobs = "1 job" if len(states) == 1 else f"{len(states)} jobs"
        print(f"{jobs}, {states.count('finished')} finished already", flush=True)
    if plan.jobs[0].dry_run:
        for job, state in zip(plan.jobs, states, strict=True):
            print(f"{Path(job.paths.run).name}  {state}")
        return
    try:
        launch()
    finally:
        if plan.multirun:
            _sum_up(plan)


def _state(folder: Path) -> str:
    try:
        return read_run(folder).status
    except InputError:
        return "not started"


def _sum_up(plan: Plan) -> None:
    from stelab.report.figures import draw_study
    from stelab.report.table import print_runs

    folders = [Path(job.paths.run) for job in plan.jobs]
    finished = print_runs(folders)
    study = folders[0].parent
    if finished:
        draw_study(study, finished)
        print(f"\nFigures: {study}/loss.png, {study}/reconstructions.png")
        print(f"Curves:  {Path(sys.executable).parent / 'tensorboard'} --logdir {study}")
