"""How far a study has come, in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path

from rich.console import Group

from stelab.engine.project import project
from stelab.engine.report.console import PlainConsole, console
from stelab.engine.report.numbers import duration, number
from stelab.engine.report.printed_table import Column, fitted
from stelab.engine.studies.status import RunState, time_left

ORDER = ("running", "failed", "unreadable", "interrupted", "missing", "pruned", "finished")
COLOURS = {"failed": "red", "unreadable": "red", "interrupted": "yellow", "finished": "green"}


def status_table(
    study: Path, states: Sequence[RunState], terminal: PlainConsole, *, driven: bool
) -> Group:
    """Lay out a row a run, those that need attention first, below the number of each kind.

    It fits the `terminal`; `driven` says whether a sweep of the study is under way.
    """
    rows = sorted(states, key=lambda state: ORDER.index(state.state))
    columns = [
        Column("run", attrgetter("name"), least=16),
        Column("settings", attrgetter("settings"), turn=1, below=True),
        Column("state", lambda run: (run.state, COLOURS.get(run.state, "default"))),
        Column(
            "steps", lambda run: f"{run.step} of {run.steps}" if run.steps else "", "number", turn=3
        ),
        *(
            Column(name, partial(_loss, name), "number", turn=turn)
            for name, turn in zip(project().losses, (2, 0), strict=True)
        ),
        Column("left", lambda run: "" if run.left is None else duration(run.left), "number"),
        Column("", attrgetter("note"), least=12),
    ]
    return Group(_summary(study, states, driven=driven), fitted(columns, rows, terminal))


def _summary(study: Path, states: Sequence[RunState], *, driven: bool) -> str:
    counts = Counter(state.state for state in states)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in ORDER[::-1] if counts[kind])
    left, end = time_left(states), ""
    if driven or counts["running"]:
        end = f"; about {duration(left)} left" if left is not None else ""
    elif counts["interrupted"] or counts["missing"]:
        end = "; nothing is running"
    return f"{study}: {len(states)} runs: {kinds}{end}"


def _loss(name: str, run: RunState) -> str:
    return number(run.losses[name]) if name in run.losses else ""


def print_states(states: Iterable[tuple[str, str, str]], *, settings: Mapping[str, str]) -> None:
    """Print a line each run that is not finished or not compared, and one for all missing ones.

    Of each there are name, state and reason, and `settings` has what was swept, by its name.
    """
    missing = 0
    for name, state, reason in states:
        if state == "missing" and not reason:
            missing += 1
            continue
        title = " ".join(filter(None, (name, settings.get(name))))
        message = f"{title}  {state}: {reason}" if reason else f"{title}  {state}"
        console().say(message, colour="red")
    if missing:
        console().say(f"{missing} missing: the same command runs them", colour="red")
