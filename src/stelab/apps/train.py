"""``stelab train``: one run, or a sweep."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from stelab.config.plan import Plan
from stelab.errors import InputError
from stelab.report.table import print_failures, print_runs
from stelab.studies import finished_run
from stelab.studies.status import RunState, state_of, survey
from stelab.studies.sweep import record_sweep


def start(cfg: DictConfig) -> float:
    """Train; return the final value of the monitored metric, for sweepers."""
    if run := finished_run(cfg):  # before torch is imported
        print(f"{run.name} is finished already (rerun=true runs it again)", flush=True)
        return run.metrics[cfg.monitor]
    from stelab.training import train

    run = train(cfg)
    values = "  ".join(f"{k} {run.metrics[k]:.4f}" for k in (cfg.monitor, "test/mse"))
    print(f"{run.name}: {values}  ({run.record['timings']['seconds']:.1f} s)", flush=True)
    return run.metrics[cfg.monitor]


def execute(plan: Plan, launch: Callable[[], None]) -> None:
    """Check all jobs' objects and data, run the jobs, and sum up a sweep.

    Raises:
        InputError: Something cannot be built, or there is nothing to run.
    """
    if not plan.jobs:
        raise InputError("only=failed: no job of this sweep failed, so there is nothing to run")
    states = [state_of(Path(job.paths.run)) for job in plan.jobs]
    _check(plan, states)
    if plan.multirun or plan.shared.dry_run:
        _announce(plan, states)
    if plan.shared.dry_run:
        for state in states:
            print(f"{state.name}  {state.state}")
    elif plan.multirun:
        _sweep(plan, launch)
    else:
        launch()


def _announce(plan: Plan, states: Sequence[RunState]) -> None:
    """Print the number of jobs, and of those that are finished where they are known."""
    finished = sum(state.state == "finished" for state in states)
    if plan.whole:
        jobs = "1 job" if plan.count == 1 else f"{plan.count} jobs"
        print(f"{jobs}, {finished} finished already", flush=True)
    elif plan.count is not None:
        print(f"at most {plan.count} jobs, such as these {len(states)}", flush=True)


def _check(plan: Plan, states: Sequence[RunState]) -> None:
    """Build what the jobs that will train will need; what is finished was built before."""
    waiting = [
        (job, overrides)
        for job, overrides, state in zip(plan.jobs, plan.overrides, states, strict=True)
        if state.state != "finished" or job.rerun
    ]
    if waiting:
        from stelab.training.run import check

        check([job for job, _ in waiting], [overrides for _, overrides in waiting])


def _sweep(plan: Plan, launch: Callable[[], None]) -> None:
    study = Path(plan.jobs[0].paths.run).parent
    command = shlex.join(["stelab", "train", *sys.argv[1:]])
    if plan.whole:
        jobs = zip(plan.jobs, plan.overrides, strict=True)
        record_sweep(study, command, {Path(job.paths.run).name: o for job, o in jobs})
    try:
        launch()
    except (KeyboardInterrupt, SystemExit) as stop:
        if getattr(stop, "code", None) != 1:  # not failed, but stopped: who did it waits
            print_failures(_unfinished(_folders(plan, study)))
            raise
    if _sum_up(plan, study, command):
        sys.exit(1)


def _folders(plan: Plan, study: Path) -> list[Path]:
    if plan.whole:
        return [*dict.fromkeys(Path(job.paths.run) for job in plan.jobs)]
    return [study / state.name for state in survey(study)]


def _unfinished(folders: Sequence[Path]) -> list[RunState]:
    return [s for s in map(state_of, folders) if s.state not in ("finished", "pruned")]


def _sum_up(plan: Plan, study: Path, command: str) -> bool:
    """Print what came out; return whether anything did not."""
    from stelab.report.figures import draw_study

    folders = _folders(plan, study)
    if finished := print_runs(folders):
        draw_study(study, finished)
        print(f"\nFigures: {study}/loss.png, {study}/reconstructions.png")
        print(f"Curves:  {Path(sys.executable).parent / 'tensorboard'} --logdir {study}")
    others = _unfinished(folders)
    print_failures(others)
    if any(state.state == "failed" for state in others):
        again = command if " only=failed" in command else f"{command} only=failed"
        print(f"\nOnly the failed ones again: {again}", file=sys.stderr)
    return bool(others)
