"""``hydra/launcher=serial``."""

from stelab.engine.launchers.base import StudyLauncher
from stelab.engine.launchers.job import InThisProcess


class SerialLauncher(StudyLauncher):
    """Runs one job after another in this process."""

    def _executor(self, most: int | None) -> InThisProcess:
        return InThisProcess()
