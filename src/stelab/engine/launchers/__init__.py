"""Hydra launchers that lose no job; ``hydra/launcher=NAME`` chooses one.

What they share is here. Their classes are in `hydra_plugins.stelab`, where Hydra looks for
plugins: it executes the modules there anew at each start, so nothing is derived from those.
"""

from stelab.engine.launchers.base import StudyLauncher
from stelab.engine.launchers.job import Attempt, Outcome

__all__ = ["Attempt", "Outcome", "StudyLauncher"]
