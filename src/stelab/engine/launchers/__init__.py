"""Hydra launchers that lose no job; ``hydra/launcher=NAME`` chooses one.

A `Job` is a run that a sweep wants, an `Attempt` trains it once, and an `Outcome` is how that
ended. A `Schedule` decides which job is next and what becomes of one that failed; an `Executor`
runs attempts in this process, in worker processes, on SLURM or on Ray; a `StudyLauncher` hands
both to Hydra. The launchers' own classes are in `hydra_plugins.stelab`, where Hydra looks for
plugins: it executes the modules there anew at each start, so nothing is derived from those.
"""
