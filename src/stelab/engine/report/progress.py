"""How far a study has come, in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Group
from rich.text import Text

from stelab.engine.project import project
from stelab.engine.report.console import PlainConsole, coloured, console
from stelab.engine.report.fitting import Column, fitted
from stelab.engine.report.numbers import number
from stelab.engine.report.words import count_kinds, duration
from stelab.engine.studies.status import RunState, time_left

ORDER = ("running", "failed", "unreadable", "interrupted", "missing", "pruned", "finished")
COLOURS = {"failed": "red", "unreadable": "red", "interrupted": "yellow", "finished": "green"}

_SHORTEST_NAME, _SHORTEST_NOTE = 16, 12
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
        Column("run", [state.name for state in rows], left=True, least=_SHORTEST_NAME),
        Column("settings", [state.settings for state in rows], left=True, turn=1, below=True),
        Column("state", [_coloured_state(state) for state in rows], left=True),
        Column("steps", [_steps(state) for state in rows], turn=3),
        *(
            Column(name, [_loss(state, name) for state in rows], turn=turn)
            for name, turn in zip(project().losses, (2, 0), strict=True)
        ),
        Column("left", [_left(state) for state in rows]),
        Column("", [state.note for state in rows], left=True, least=_SHORTEST_NOTE),
    ]
    shown = [column for column in columns if any(map(str, column.cells))]
    return Group(_summary(study, states, driven=driven), fitted(shown, terminal))


def _summary(study: Path, states: Sequence[RunState], *, driven: bool) -> str:
    counts = Counter(state.state for state in states)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in ORDER[::-1] if counts[kind])
    left = time_left(states)
    if driven or counts["running"]:
        end = f"; about {duration(left)} left" if left is not None else ""
    else:
        end = "; nothing is running" if any(counts[kind] for kind in _UNFINISHED) else ""
    return f"{study}: {len(states)} runs: {kinds}{end}"


def _coloured_state(state: RunState) -> Text:
    return coloured(state.state, COLOURS.get(state.state, "default"))


def _steps(state: RunState) -> str:
    return f"{state.step} of {state.steps}" if state.steps else ""


def _loss(state: RunState, name: str) -> str:
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
