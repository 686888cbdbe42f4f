"""``stelab tensorboard``: a study's curves, hyperparameters and figures in TensorBoard."""

from __future__ import annotations

import sys
from contextlib import suppress

from omegaconf import DictConfig

from stelab.engine.config.lists import split_commas
from stelab.engine.config.writable import require_folder
from stelab.engine.files import require_own
from stelab.engine.terminal import visible
from stelab.engine.trust import packages

TEXTS = ("study", "by", "where", "replicates", "trust")


def start(cfg: DictConfig) -> None:
    """Write the study's view; with ``serve=true`` show it, and keep it current, until Ctrl-C."""
    from stelab.engine.comparison.conditions import comparison_folder, study_folders
    from stelab.engine.report.board.server import (
        addresses,
        keep_current,
        launch,
        require_free,
        traces,
        until_stopped,
    )
    from stelab.engine.report.board.view import View, read_view
    from stelab.engine.report.board.writing import write_anew, write_view

    trust = packages(cfg.trust)
    studies = study_folders(cfg.paths.outputs, cfg.study)
    folder = comparison_folder(studies) / "tensorboard"
    require_folder(folder)

    def read(*, embeddings: bool) -> View:
        return read_view(
            studies,
            by=None if cfg.by is None else split_commas(cfg.by),
            where=cfg.where,
            replicates=split_commas(cfg.replicates),
            embeddings=embeddings,
            trust=trust,
        )

    def renew() -> None:
        with suppress(FileNotFoundError):  # another command has just put its view there
            write_view(read(embeddings=False), folder)

    if cfg.serve:
        require_free(cfg.host, cfg.port)
    before = traces(studies)
    view = read(embeddings=cfg.embeddings)
    for line in view.missing:
        print(visible(line), file=sys.stderr)
    require_own(folder.parent)
    write_anew(view, folder)
    if not cfg.serve:
        return print(folder)
    url = launch(folder, host=cfg.host, port=cfg.port, title=f"stelab: {cfg.study}")
    (_, first), *others = addresses(url, split_commas(cfg.replicates)).items()
    with until_stopped():
        print(
            f"{first} overlays the losses of {len(view.runs)} runs of {cfg.study} (Ctrl-C ends it)"
        )
        for name, address in others:
            print(f"  {name}: {address}", flush=True)
        keep_current(studies, before, renew)
