"""Studies: named sets of runs, each in a folder of its own."""

from stelab.studies.record import Run, read_finished, read_run

__all__ = ["Run", "read_finished", "read_run"]
