"""``hydra/launcher=stacked``."""

from collections.abc import Sequence
from pkgutil import resolve_name

from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from stelab.arguments import Count, Size
from stelab.engine.launchers.base import StudyLauncher
from stelab.engine.launchers.schedule import OnFailure
from stelab.engine.launchers.stacks import Stacks
from stelab.engine.project import project


class StackedLauncher(StudyLauncher):
    """Trains jobs that differ in numbers only as one program, at most `size` at once."""

    def __init__(self, *, size: Count, retries: Size, on_failure: OnFailure):
        super().__init__(retries=retries, on_failure=on_failure)
        self.size = size

    def run(self, jobs: Sequence[DictConfig], *, first: int = 0) -> list[JobReturn]:
        """Run all jobs, those of a kind next to each other; return their results in order."""
        kinds = [*map(resolve_name(project().kind), jobs)]
        places = {kind: place for place, kind in enumerate(dict.fromkeys(kinds))}
        ordered = sorted(range(len(jobs)), key=lambda index: places[kinds[index]])
        results = super().run([jobs[index] for index in ordered], first=first)
        found = {id(result.cfg): result for result in results}
        return [found[id(job)] for job in jobs if id(job) in found]

    def _executor(self, most: int | None) -> Stacks:
        return Stacks(self.size)
