"""``stelab status``: how far a study has come."""

import time
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Group
from rich.live import Live

from stelab.engine.report.console import console
from stelab.engine.report.status_table import status_table
from stelab.engine.studies.status import survey
from stelab.engine.studies.sweep import is_driven


def start(cfg: DictConfig) -> None:
    """Print the state of every run; with ``watch=true`` until its sweeps and runs are over."""
    study, terminal = Path(cfg.paths.outputs, cfg.study), console()

    def survey_now() -> tuple[Group, bool]:
        driven = is_driven(study)  # before its runs: a driver's last act is that of its last run
        states = survey(study)
        going_on = driven or any(state.state == "running" for state in states)
        return status_table(study, states, terminal, driven=driven), going_on

    table, going_on = survey_now()
    if not cfg.watch:
        return terminal.print(table, crop=False)
    with Live(table, console=terminal, auto_refresh=False) as live:
        while going_on:
            time.sleep(1)
            table, going_on = survey_now()
            live.update(table, refresh=True)
