"""How far a study has come, in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from stelab.report.console import console
from stelab.studies.status import RunState

ORDER = ("running", "failed", "unreadable", "interrupted", "missing", "pruned", "finished")
COLOURS = {"failed": "red", "unreadable": "red", "interrupted": "yellow", "finished": "green"}


def status_table(study: Path, states: Sequence[RunState]) -> Group:
    """Lay out one row a run, those that need attention first, below the number of each kind."""
    counts = Counter(state.state for state in states)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in ORDER[::-1] if counts[kind])
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("run", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("steps", justify="right", no_wrap=True)
    table.add_column("")
    for state in sorted(states, key=lambda state: ORDER.index(state.state)):
        steps = f"{state.step} of {state.steps}" if state.steps else ""
        colour = COLOURS.get(state.state, "default")
        table.add_row(state.name, f"[{colour}]{state.state}[/]", steps, state.note)
    return Group(f"{study}: {len(states)} runs: {kinds}", table)


def print_states(lines: Iterable[tuple[str, str, str]]) -> None:
    """Print a line each run that is not finished or not compared: its name, state and reason."""
    for name, state, reason in lines:
        text = f"{name}  {state}: {reason}" if reason else f"{name}  {state}"
        console().print(text, style="red", highlight=False, markup=False)
