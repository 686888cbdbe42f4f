"""``hydra/launcher=submitit_slurm`` and ``hydra/launcher=submitit_local``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stelab.arguments import Count, Size
from stelab.engine.extras import require_package
from stelab.engine.launchers.base import OnFailure, StudyLauncher
from stelab.engine.launchers.processes import jobs_at_once
from stelab.engine.launchers.slurm import SubmittedToSlurm
from stelab.engine.launchers.submission import SubmittedHere


class SlurmLauncher(StudyLauncher):
    """Submits jobs to SLURM.

    Args:
        retries: See `StudyLauncher`.
        on_failure: See `StudyLauncher`.
        parameters: What jobs need, as submitit calls it.
    """

    def __init__(self, *, retries: Size, on_failure: OnFailure, **parameters: Any):
        super().__init__(retries=retries, on_failure=on_failure)
        self.parameters = parameters

    def executor(self) -> SubmittedToSlurm:
        """Make what runs the jobs."""
        require_package("submitit", extra="slurm", user="this launcher")
        return SubmittedToSlurm(Path(self.config.hydra.sweep.dir, ".submitit"), self.parameters)


class LocalLauncher(StudyLauncher):
    """Submits jobs to this machine as if it were SLURM.

    Args:
        threads: What each job takes: there are as many at once as leave each one its threads.
        retries: See `StudyLauncher`.
        on_failure: See `StudyLauncher`.
        parameters: What jobs need, as submitit calls it.
    """

    def __init__(self, *, threads: Count, retries: Size, on_failure: OnFailure, **parameters: Any):
        super().__init__(retries=retries, on_failure=on_failure)
        self.threads = threads
        self.parameters = parameters

    def executor(self) -> SubmittedHere:
        """Make what runs the jobs."""
        require_package("submitit", extra="slurm", user="this launcher")
        return SubmittedHere(
            Path(self.config.hydra.sweep.dir, ".submitit"),
            self.parameters,
            slots=jobs_at_once(self.threads),
        )
