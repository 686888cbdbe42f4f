"""``hydra/launcher=serial``."""

from stelab.engine.launchers.base import StudyLauncher
from stelab.engine.launchers.job import InThisProcess


class SerialLauncher(StudyLauncher):
    """Runs one job after another in this process."""

    def executor(self) -> InThisProcess:
        """Make what runs the jobs."""
        return InThisProcess()
