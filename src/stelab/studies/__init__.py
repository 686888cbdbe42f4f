"""Studies: named sets of runs, each in a folder of its own."""

from stelab.studies.record import Run, finished_run, read_finished, read_run

__all__ = ["Run", "finished_run", "read_finished", "read_run"]
