"""``stelab unpack``: the runs of an archive to where they would lie if they were made here."""

from pathlib import Path

from omegaconf import DictConfig

from stelab.engine.archives import SUFFIX, is_archive, studies_in
from stelab.engine.errors import InputError
from stelab.engine.files import require_folder
from stelab.engine.report.numbers import count_kinds, counted
from stelab.engine.studies.exchange import unpack
from stelab.engine.terminal import visible

TEXTS = ("archive",)


def start(cfg: DictConfig) -> None:
    """Put runs where there are none yet, and say which were left as they are."""
    archive = Path(cfg.archive)
    if not is_archive(archive):
        raise InputError(f"archive must be a file {SUFFIX} of stelab export, got {archive}")
    require_folder(cfg.paths.outputs)
    moved = unpack(studies_in(archive), Path(cfg.paths.outputs))
    for run, why in moved.left:
        print(f"{run}: {why}")
    kinds = f" ({count_kinds(moved.states)})" if moved.states else ""
    runs = f"{counted(moved.states.total(), 'run')}{kinds} unpacked"
    print(visible(f"{cfg.paths.outputs}: {runs}, {moved.there} there already"))
