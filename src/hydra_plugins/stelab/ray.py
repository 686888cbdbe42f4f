"""``hydra/launcher=ray``."""

import os

from stelab.arguments import Count, NonNegative, Size, Text
from stelab.engine.launchers.base import StudyLauncher
from stelab.engine.launchers.job import Executor
from stelab.engine.launchers.schedule import OnFailure
from stelab.engine.project import require_package


class RayLauncher(StudyLauncher):
    """Runs jobs as tasks of a Ray cluster; see `RayTasks`."""

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

    def _executor(self, most: int | None) -> Executor:
        require_package("ray", extra="ray", user="this launcher")
        # Ray would report usage to its makers, and write a token into the home folder.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        from stelab.engine.launchers.cluster import RayTasks

        return RayTasks(address=self.address, num_cpus=self.num_cpus, num_gpus=self.num_gpus)
