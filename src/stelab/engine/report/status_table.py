"""How far a study has come, in the terminal."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Group

from stelab.engine.project import project
from stelab.engine.report.console import Column, PlainConsole, console, fitted
from stelab.engine.report.numbers import duration, number
from stelab.engine.studies.status import RunState, time_left

ORDER = ("running", "failed", "unreadable", "interrupted", "missing", "pruned", "finished")
COLOURS = {"failed": "red", "unreadable": "red", "interrupted": "yellow", "finished": "green"}


def status_table(
    study: Path, states: Sequence[RunState], terminal: PlainConsole, *, driven: bool
) -> Group:
    """Lay out a row a run, what needs attention first; `driven`: a sweep of the study goes on."""
    counts = Counter(run.state for run in states)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in ORDER[::-1] if counts[kind])
    left, end = time_left(states), ""
    if driven or counts["running"]:
        end = f"; about {duration(left)} left" if left is not None else ""
    elif counts["interrupted"] or counts["missing"]:
        end = "; nothing is running"
    train, val = project().losses
    columns = [
        Column("run", lambda run: run.name, least=16),
        Column("settings", lambda run: run.settings, turn=1, below=True),
        Column("state", lambda run: (run.state, COLOURS.get(run.state, "default"))),
        Column("steps", _steps, "number", turn=3),
        Column(train, lambda run: _loss(run, train), "number", turn=2),
        Column(val, lambda run: _loss(run, val), "number"),
        Column("left", lambda run: "" if run.left is None else duration(run.left), "number"),
        Column("", lambda run: run.note, least=12),
    ]
    rows = sorted(states, key=lambda run: ORDER.index(run.state))
    return Group(f"{study}: {len(states)} runs: {kinds}{end}", fitted(columns, rows, terminal))


def _steps(run: RunState) -> str:
    return f"{run.step} of {run.steps}" if run.steps else ""


def _loss(run: RunState, name: str) -> str:
    return number(run.losses[name]) if name in run.losses else ""


def print_states(states: Iterable[tuple[str, str, str]], *, settings: Mapping[str, str]) -> None:
    """Print a line for each run that is not compared, and one for all that are only missing."""
    missing = 0
    for name, state, reason in states:
        if state == "missing" and not reason:
            missing += 1
            continue
        title = " ".join(filter(None, (name, settings.get(name))))
        console().say(": ".join(filter(None, (f"{title}  {state}", reason))), colour="red")
    if missing:
        console().say(f"{missing} missing: the same command runs them", colour="red")
