"""What a run that begins anew removes, and what it leaves."""

from __future__ import annotations

from pathlib import Path

from stelab.engine.studies.record import RunFolder


def test_only_what_a_run_writes_is_removed(tmp_path: Path) -> None:
    (kept := tmp_path / "kept").mkdir()
    (kept / "events").touch()
    (run := tmp_path / "run").mkdir()
    for name in ("checkpoints", "figures", "my notes"):
        (run / name).mkdir()
        (run / name / "file").touch()
    (run / "tb").symlink_to(kept)
    for name in ("run.json", "config.yaml", "metrics.csv", "progress.json", ".run.json.123"):
        (run / name).touch()
    for name in ("lock", "notes.txt", ".git"):
        (run / name).touch()
    RunFolder(run).empty()
    assert sorted(path.name for path in run.iterdir()) == [".git", "lock", "my notes", "notes.txt"]
    assert (kept / "events").exists()
