"""``stelab status``: how far studies have come."""

import time

from omegaconf import DictConfig
from rich.console import Group
from rich.live import Live

from stelab.engine.report.console import console
from stelab.engine.report.status_table import status_table
from stelab.engine.studies.places import study_folders
from stelab.engine.studies.status import survey
from stelab.engine.studies.sweep import is_driven

TEXTS = ("study",)


def start(cfg: DictConfig) -> None:
    """Print the state of every run; with ``watch=true`` until their sweeps and runs are over."""
    studies, terminal = study_folders(cfg.paths.outputs, cfg.study), console()

    def survey_now() -> tuple[Group, bool]:
        tables, going_on = [], False
        for study in studies:
            driven = is_driven(
                study
            )  # before its runs: a driver's last act is that of its last run
            states = survey(study)
            going_on |= driven or any(state.state == "running" for state in states)
            tables.append(status_table(study, states, terminal, driven=driven))
        return Group(*tables), going_on

    table, going_on = survey_now()
    if not cfg.watch:
        return terminal.print(table, crop=False)
    with Live(table, console=terminal, auto_refresh=False) as live:
        while going_on:
            time.sleep(1)
            table, going_on = survey_now()
            live.update(table, refresh=True)
