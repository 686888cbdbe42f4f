"""``stelab tensorboard``: a study's curves, hyperparameters and figures in TensorBoard."""

import sys
from contextlib import suppress
from functools import partial

from omegaconf import DictConfig

from stelab.engine.errors import InputError
from stelab.engine.files import require_folder, require_own
from stelab.engine.path_names import split_commas
from stelab.engine.terminal import visible
from stelab.engine.trust import packages

TEXTS = ("study", "by", "where", "replicates", "trust")


def start(cfg: DictConfig) -> None:
    """Write the study's view; with ``serve=true`` show it, and keep it current, until Ctrl-C."""
    from stelab.engine.report.board import server
    from stelab.engine.report.board.view import read_view
    from stelab.engine.report.board.writing import write_anew, write_view
    from stelab.engine.studies.places import comparison_folder, is_folder, study_folders

    trust = packages(cfg.trust)
    studies = study_folders(cfg.paths.outputs, cfg.study)
    if files := [study for study in studies if not is_folder(study)]:
        raise InputError(
            f"study must be a folder, got {files[0]}: there are no event files to show; "
            "stelab compare draws its curves"
        )
    folder = comparison_folder(studies) / "tensorboard"
    require_folder(folder)
    by = None if cfg.by is None else split_commas(cfg.by)
    replicates = split_commas(cfg.replicates)
    read = partial(read_view, studies, by=by, where=cfg.where, replicates=replicates, trust=trust)

    def renew() -> None:
        with suppress(FileNotFoundError):  # another command has just put its view there
            write_view(read(embeddings=False), folder)

    if cfg.serve:
        server.require_free(cfg.host, cfg.port)
    before = server.traces(studies)
    view = read(embeddings=cfg.embeddings)
    for line in view.missing:
        print(visible(line), file=sys.stderr)
    require_own(folder.parent)
    write_anew(view, folder)
    if not cfg.serve:
        return print(folder)
    url = server.launch(folder, host=cfg.host, port=cfg.port, title=f"stelab: {cfg.study}")
    (_, first), *others = server.addresses(url, replicates).items()
    with server.until_stopped():
        runs = f"{len(view.runs)} runs of {cfg.study}"
        print(f"{first} overlays the losses of {runs} (Ctrl-C ends it)")
        for name, address in others:
            print(f"  {name}: {address}", flush=True)
        server.keep_current(studies, before, renew)
