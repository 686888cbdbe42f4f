"""``stelab train``: one run, or a sweep."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from stelab.apps.main import command_line, study_command
from stelab.engine.config.composition import overrides_of
from stelab.engine.config.input_errors import reading_input
from stelab.engine.errors import InputError
from stelab.engine.files import require_folder
from stelab.engine.importing import importing
from stelab.engine.launchers.forks import importing_early
from stelab.engine.report.numbers import count_kinds
from stelab.engine.report.status_table import print_states
from stelab.engine.studies import Run, finished_run
from stelab.engine.studies.headline import Headline
from stelab.engine.studies.record import RunFolder
from stelab.engine.studies.status import names_of, state_of
from stelab.engine.studies.sweep import differing_overrides, driving, record_sweep
from stelab.engine.sweepers.plan import Plan
from stelab.engine.terminal import undisturbed, visible
from stelab.engine.trust import packages_of

if TYPE_CHECKING:
    from stelab.engine.comparison import Comparison
    from stelab.engine.studies.study import Study
    from stelab.lab.training.stack import Seat


def start(cfg: DictConfig) -> float:
    """Train; return the final value of the monitored metric, for sweepers."""
    value, summary = train_or_return(cfg)
    print(visible(f"{RunFolder.of(cfg).name}: {summary}"), flush=True)
    return value


def train_or_return(
    cfg: DictConfig, finished: Run | None = None, seat: Seat | None = None
) -> tuple[float, str]:
    """Train, unless the run is `finished`; return the monitored metric and a line to print."""
    if run := finished or finished_run(cfg):  # before torch is imported
        end = "(finished already: rerun=true runs it again)"
    else:
        with importing():
            from stelab.lab.training.run import train_checked

        run = train_checked(cfg, seat)
        end = f"({run.record['timings']['seconds']:.1f} s)"
    names = dict.fromkeys((cfg.monitor, Headline.of(run.record).test))
    metrics = {name: run.metrics[name] for name in names if name in run.metrics}
    values = (f"{name} {value:.4f}" for name, value in metrics.items())
    return run.metrics[cfg.monitor], "  ".join([*values, end])


def execute(plan: Plan, launch: Callable[[], None]) -> None:
    """Check all jobs' objects and data, run the jobs, and sum up a sweep."""
    if not plan.jobs:
        raise InputError("only=failed: no job of this sweep failed, so there is nothing to run")
    with ExitStack() as workers:
        with reading_input():
            folders = [RunFolder.of(job) for job in plan.jobs]
            for folder in folders:
                if not os.path.isfile(folder.record):
                    require_folder(folder.path)
            states = [state_of(folder.path).state for folder in folders]
            jobs = zip(plan.jobs, states, strict=True)
            # What is finished was built before.
            if waiting := [job for job, state in jobs if state != "finished" or job.rerun]:
                if plan.forks and not plan.shared.dry_run:
                    workers.enter_context(importing_early())
                with importing():
                    from stelab.lab.training.check import check

                check(waiting)
        with undisturbed():
            _run(plan, states, launch)


def _run(plan: Plan, states: Sequence[str], launch: Callable[[], None]) -> None:
    if plan.multirun or plan.shared.dry_run:
        _announce(plan, states)
    if plan.shared.dry_run:
        for state, (name, settings) in zip(states, _named(plan), strict=True):
            print(visible("  ".join(filter(None, (name, state, settings)))))
    elif plan.multirun:
        _sweep(plan, launch)
    else:
        with _on_interruption(plan):
            launch()


def _announce(plan: Plan, states: Sequence[str]) -> None:
    """Print the number of jobs, and of those that are finished where they are known."""
    if plan.whole:
        jobs = "1 job" if plan.count == 1 else f"{plan.count} jobs"
        print(f"{jobs}, {states.count('finished')} finished already", flush=True)
    elif plan.count is not None:
        print(f"at most {plan.count} jobs, such as these {len(states)}", flush=True)


def _sweep(plan: Plan, launch: Callable[[], None]) -> None:
    command = command_line()
    studies: dict[Path, dict[str, list[str]]] = {}
    for job in plan.jobs:
        folder = RunFolder.of(job)
        studies.setdefault(folder.study, {})[folder.name] = overrides_of(job)
    try:
        with driving(studies), _on_interruption(plan):
            for study, jobs in studies.items() if plan.whole else ():
                record_sweep(study, command, jobs)
            launch()
    except SystemExit as end:
        if end.code != 1:  # stopped rather than failed: whoever stopped it waits
            raise
    if _sum_up(plan, command):
        sys.exit(1)


@contextmanager
def _on_interruption(plan: Plan) -> Iterator[None]:
    """Print what is left, and how to go on, when a signal ends a sweep or a run."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        if getattr(stop, "code", None) not in (0, 1, 2):  # stopped before its end
            counts = Counter(state_of(folder).state for folder in _folders(plan))
            print(f"{count_kinds(counts)}; the same command continues", flush=True)
        raise


def _folders(plan: Plan) -> list[Path]:
    """Return the folders of a sweep's runs: all in its study where they are chosen as it goes."""
    if plan.whole:
        return [*dict.fromkeys(RunFolder.of(job).path for job in plan.jobs)]
    study = RunFolder.of(plan.jobs[0]).study
    return [study / name for name in names_of(study)]


def _named(plan: Plan) -> list[tuple[str, str]]:
    """Return each job's run id and what was swept."""
    settings = differing_overrides([overrides_of(job) for job in plan.jobs])
    return list(zip((RunFolder.of(job).name for job in plan.jobs), settings, strict=True))


def _sum_up(plan: Plan, command: str) -> bool:
    """Print the results of a sweep; return whether any run is without one."""
    from stelab.engine.studies.tables import load

    folders = _folders(plan)
    tables = load(*(f.parent for f in folders), runs={f.name for f in folders})
    if not tables.finished.empty:
        _conclude(plan, tables, [*dict.fromkeys(folder.parent for folder in folders)])
    lost = tables.left_out[["run", "state", "reason"]].itertuples(index=False, name=None)
    print_states(lost, settings=dict(_named(plan)))
    done = {*tables.finished["folder"]}
    states = {state_of(folder).state for folder in folders if str(folder) not in done}
    if "failed" in states:
        again = command if " only=failed" in command else f"{command} only=failed"
        print(f"\nOnly the failed ones again: {again}", file=sys.stderr)
    return bool(states - {"finished", "pruned"})


def _conclude(plan: Plan, tables: Study, studies: Sequence[Path]) -> None:
    """Print the comparison and the commands that show more of it; draw it in the first study."""
    from stelab.engine.report.printed_comparison import print_comparison
    from stelab.engine.report.study_figures import draw_study

    comparison = _compare(plan, tables)
    print_comparison(comparison)
    trust = {name for job in plan.jobs for name in packages_of(job)}  # this very command's
    drawn, missing = draw_study(studies[0], comparison, trust=sorted(trust))
    names = ",".join(study.name for study in studies)
    place = {"study": names, "outputs": str(plan.shared.paths.outputs)}
    choice = {"baseline": comparison.baseline} if plan.first_is_baseline else {}
    for line in missing:
        print(visible(line))
    print(f"\nFigures:     {', '.join(map(str, drawn)) or 'none could be drawn'}")
    print(f"Report:      {study_command('compare', **place, **choice)}")
    print(f"TensorBoard: {study_command('tensorboard', **place)}", flush=True)


def _compare(plan: Plan, tables: Study) -> Comparison:
    """Compare the groups of a sweep with its own baseline, where it has one."""
    from stelab.engine.comparison import compare
    from stelab.engine.comparison.conditions import write_value

    replicates = [key for key in plan.replicates if key in tables.runs] or ["seed"]
    comparison = compare(tables, replicates=replicates)
    first = comparison.runs[comparison.runs["run"] == RunFolder.of(plan.jobs[0]).name]
    if not plan.first_is_baseline or first.empty:
        return comparison
    settings = first.iloc[0][list(comparison.by)].dropna()
    baseline = " ".join(f"{key}={write_value(value)}" for key, value in settings.items())
    return compare(tables, replicates=replicates, baseline=baseline or None)
