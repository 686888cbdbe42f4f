"""``stelab status``: how far a study has come."""

from __future__ import annotations

import time
from pathlib import Path

from omegaconf import DictConfig
from rich.live import Live

from stelab.report.console import console
from stelab.report.progress import status_table
from stelab.studies.status import survey


def start(cfg: DictConfig) -> None:
    """Print the state of every run; with ``watch=true`` until none is running."""
    study = Path(cfg.paths.outputs, cfg.study)
    states = survey(study)
    terminal = console()
    if not cfg.watch:
        terminal.print(status_table(study, states))
        return
    with Live(status_table(study, states), console=terminal, auto_refresh=False) as live:
        while any(state.state == "running" for state in states):
            time.sleep(1)
            states = survey(study)
            live.update(status_table(study, states), refresh=True)
