"""The metric that a run is judged by, as its record says."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

from typing_extensions import Self

from stelab.engine.project import project
from stelab.engine.studies.run_format import is_name, part_of

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Headline:
    """A metric and which of its values are better."""

    metric: str  # without its split, "mse"
    better: Better

    @classmethod
    def of(cls, record: dict[str, Any]) -> Self:
        """Return what run.json says; of a run that is older than tasks, the project's."""
        task = part_of(record, "task")
        if not is_name(task.get("metric")) or task.get("better") not in ("lower", "higher"):
            return cls(project().metric, "lower")
        return cls(task["metric"], cast(Better, task["better"]))

    @classmethod
    def shared(cls, headlines: Iterable[Self]) -> Self | None:
        """Return the one of all runs; None where they have several, the project's of none."""
        several = set(headlines)
        if len(several) > 1:
            return None
        return several.pop() if several else cls.of({})

    @property
    def test(self) -> str:
        """Return its full name in the test, by which runs are compared."""
        return f"test/{self.metric}"

    @property
    def live(self) -> tuple[str, str]:
        """Return the names of the same while a run trains, the more telling first."""
        return f"val/{self.metric}", f"train/{self.metric}"
