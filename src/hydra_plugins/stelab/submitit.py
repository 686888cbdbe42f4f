"""``hydra/launcher=submitit_slurm`` and ``hydra/launcher=submitit_local``."""

from pathlib import Path
from typing import Any, Literal

from stelab.arguments import Count, Size
from stelab.engine.launchers.base import StudyLauncher
from stelab.engine.launchers.job import Executor
from stelab.engine.launchers.processes import jobs_at_once
from stelab.engine.launchers.schedule import OnFailure
from stelab.engine.project import require_package


class SlurmLauncher(StudyLauncher):
    """Submits jobs to SLURM; `parameters` are what jobs need, as submitit calls it."""

    def __init__(self, *, retries: Size, on_failure: OnFailure, **parameters: Any):
        super().__init__(retries=retries, on_failure=on_failure)
        self.parameters = parameters

    def _executor(self, most: int | None) -> Executor:
        require_package("submitit", extra="slurm", user="this launcher")
        from stelab.engine.launchers.submission import SubmittedToSlurm

        return SubmittedToSlurm(Path(self.config.hydra.sweep.dir, ".submitit"), self.parameters)


class LocalLauncher(StudyLauncher):
    """Submits jobs to this machine as if it were SLURM, as many as leave each its `threads`."""

    def __init__(
        self,
        *,
        threads: Count | Literal["auto"],
        retries: Size,
        on_failure: OnFailure,
        **parameters: Any,
    ):
        super().__init__(retries=retries, on_failure=on_failure)
        self.slots = jobs_at_once(threads)
        self.parameters = parameters

    def _executor(self, most: int | None) -> Executor:
        require_package("submitit", extra="slurm", user="this launcher")
        from stelab.engine.launchers.submission import SubmittedHere

        folder = Path(self.config.hydra.sweep.dir, ".submitit")
        slots = self.slots if most is None else min(self.slots, most)
        return SubmittedHere(folder, self.parameters, slots=slots)
