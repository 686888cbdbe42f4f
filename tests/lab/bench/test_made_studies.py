"""Copies of a run are sound runs of a study."""

from __future__ import annotations

from pathlib import Path

from stelab.engine.studies import Run, load, read_run
from stelab.lab.bench.studies import SEEDS, make_study


def test_copies_are_sound_and_differ(trained: Run, tmp_path: Path) -> None:
    make_study(trained, tmp_path / "made", 25)
    study = load(tmp_path / "made")
    assert study.left_out.empty
    assert {*study.swept} == {"seed", "threshold.value"}
    assert not study.runs["edited"].any()
    groups = study.finished.groupby("threshold.value")["seed"].apply(sorted)
    assert groups.to_dict() == {0.0: [*range(SEEDS)], 0.001: [*range(SEEDS)], 0.002: [*range(5)]}
    assert study.finished["test/mse"].nunique() == 25
    last = study.curves.groupby("run")["test/mse"].last()
    assert (last - study.finished.set_index("run")["test/mse"]).abs().max() < 1e-12
    for folder in (tmp_path / "made").iterdir():
        assert read_run(folder).composition is not None  # its fingerprint is config.yaml's
