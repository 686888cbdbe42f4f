"""``hydra/launcher=ray``."""

from __future__ import annotations

from stelab.arguments import Count, NonNegative, Size, Text
from stelab.engine.extras import require_package
from stelab.engine.launchers.base import OnFailure, StudyLauncher
from stelab.engine.launchers.cluster import RayTasks


class RayLauncher(StudyLauncher):
    """Runs jobs as tasks of a Ray cluster.

    Args:
        address: See `RayTasks`.
        num_cpus: See `RayTasks`.
        num_gpus: See `RayTasks`.
        retries: See `StudyLauncher`.
        on_failure: See `StudyLauncher`.
    """

    def __init__(
        self,
        *,
        address: Text | None,
        num_cpus: Count,
        num_gpus: NonNegative,
        retries: Size,
        on_failure: OnFailure,
    ):
        super().__init__(retries=retries, on_failure=on_failure)
        self.address, self.num_cpus, self.num_gpus = address, num_cpus, num_gpus

    def executor(self) -> RayTasks:
        """Make what runs the jobs."""
        require_package("ray", extra="ray", user="this launcher")
        return RayTasks(address=self.address, num_cpus=self.num_cpus, num_gpus=self.num_gpus)
