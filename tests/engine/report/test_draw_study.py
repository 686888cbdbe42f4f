"""What a sweep leaves in its study's folder."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from made_study import make_study
from stelab.engine.comparison import compare
from stelab.engine.report.study_figures import draw_study
from stelab.engine.studies import Run
from stelab.engine.studies.tables import load


def test_loss_and_reconstructions_are_drawn(trained: Run, tmp_path: Path) -> None:
    draw_study(tmp_path, compare(load(trained.folder.parent)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loss.png", "reconstructions.png"]
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.width == 2148


def test_without_checkpoints_only_the_loss_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "reconstructions.png").touch()  # of an earlier sweep
    drawn, missing = draw_study(tmp_path, compare(make_study([{"estimator": "identity"}])))
    assert drawn == [tmp_path / "loss.png"]
    assert missing == [
        "No reconstructions: run-0-s0 is not a run's folder: there is no run.json in it."
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]
