"""Studies: named sets of runs, each in a folder of its own."""

from typing import TYPE_CHECKING, Any

from stelab.engine.studies.record import Run, finished_run, read_finished, read_run

if TYPE_CHECKING:
    from stelab.engine.studies.study import Study
    from stelab.engine.studies.tables import load

__all__ = ["Run", "Study", "finished_run", "load", "read_finished", "read_run"]


def __getattr__(name: str) -> Any:
    if name not in ("Study", "load"):
        raise AttributeError(f"module 'stelab.engine.studies' has no attribute '{name}'")
    from stelab.engine.studies import study, tables  # pandas is imported when it is needed

    return getattr(tables if name == "load" else study, name)
