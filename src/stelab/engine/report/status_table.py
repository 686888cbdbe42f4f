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
from stelab.engine.report.numbers import number
from stelab.engine.report.phrases import count_kinds, duration
from stelab.engine.report.printed_table import fitted
from stelab.engine.report.table import Cell, Column
from stelab.engine.studies.status import RunState, time_left

ORDER = ("running", "failed", "unreadable", "interrupted", "missing", "pruned", "finished")
COLOURS = {"failed": "red", "unreadable": "red", "interrupted": "yellow", "finished": "green"}

_UNFINISHED = ("interrupted", "missing")


def status_table(
    study: Path, states: Sequence[RunState], terminal: PlainConsole, *, driven: bool
) -> Group:
    """Lay out one row a run, those that need attention first, below the number of each kind.

    Args:
        study: Its folder.
        states: Of its runs.
        terminal: Where it will be printed.
        driven: Whether a sweep of it is under way.
    """
    rows = sorted(states, key=lambda state: ORDER.index(state.state))
    columns = [
        Column("run", attrgetter("name"), least=16),
        Column("settings", attrgetter("settings"), turn=1, below=True),
        Column("state", _state),
        Column("steps", _steps, "number", turn=3),
        *(
            Column(name, partial(_loss, name), "number", turn=turn)
            for name, turn in zip(project().losses, (2, 0), strict=True)
        ),
        Column("left", _left, "number"),
        Column("", attrgetter("note"), least=12),
    ]
    return Group(_summary(study, states, driven=driven), fitted(columns, rows, terminal))


def _summary(study: Path, states: Sequence[RunState], *, driven: bool) -> str:
    counts = Counter(state.state for state in states)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in ORDER[::-1] if counts[kind])
    left = time_left(states)
    if driven or counts["running"]:
        end = f"; about {duration(left)} left" if left is not None else ""
    else:
        end = "; nothing is running" if any(counts[kind] for kind in _UNFINISHED) else ""
    return f"{study}: {len(states)} runs: {kinds}{end}"


def _state(state: RunState) -> Cell:
    return Cell(state.state, colour=COLOURS.get(state.state, "default"))


def _steps(state: RunState) -> str:
    return f"{state.step} of {state.steps}" if state.steps else ""


def _loss(name: str, state: RunState) -> str:
    return number(state.losses[name]) if name in state.losses else ""


def _left(state: RunState) -> str:
    return "" if state.left is None else duration(state.left)


def print_states(lines: Iterable[tuple[str, str, str]], *, settings: Mapping[str, str]) -> None:
    """Print a line each run that is not finished or not compared, and one for all missing ones.

    Args:
        lines: Name, state and reason of each.
        settings: What was swept, by the run's name.
    """
    missing = 0
    for name, state, reason in lines:
        if state == "missing" and not reason:
            missing += 1
            continue
        title = " ".join(filter(None, (name, settings.get(name))))
        console().say(
            f"{title}  {state}: {reason}" if reason else f"{title}  {state}", colour="red"
        )
    if missing:
        console().say(
            f"{count_kinds({'missing': missing})}: the same command runs them", colour="red"
        )
