"""``stelab export``: studies to one file that others can read."""

import os
from pathlib import Path

from omegaconf import DictConfig

from stelab.engine.archives import SUFFIX
from stelab.engine.errors import InputError
from stelab.engine.files import require_file
from stelab.engine.report.numbers import count_kinds, counted
from stelab.engine.studies.exchange import export
from stelab.engine.studies.places import study_folders
from stelab.engine.terminal import visible

TEXTS = ("study", "output")


def start(cfg: DictConfig) -> None:
    """Write the archive, and say what is in it and what is not."""
    studies = study_folders(cfg.paths.outputs, cfg.study)
    name = "-with-".join(dict.fromkeys(study.name for study in studies))
    target = Path(cfg.output or Path(cfg.paths.outputs, f"{name}{SUFFIX}"))
    if not target.name.endswith(SUFFIX):
        raise InputError(f"output must end in {SUFFIX}, got {visible(str(target))}")
    require_file(target)
    if os.path.lexists(target) and not cfg.overwrite:
        raise InputError(f"{target} exists already: give another output, or overwrite=true")
    moved = export(studies, target)
    for run, why in moved.left:
        print(f"{run} is left out: {why}")
    for text in moved.kept:
        print(visible(f"{text} is part of a run's id, so it can be read in the archive"))
    runs, size = counted(moved.states.total(), "run"), target.stat().st_size
    print(visible(f"{target}: {runs} ({count_kinds(moved.states)}), {size / 1000:.1f} kB"))
