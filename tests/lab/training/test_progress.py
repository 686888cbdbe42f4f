"""How often progress.json is written, by a clock of its own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stelab.engine.studies.record import RunFolder
from stelab.lab.training.progress import ProgressFile


def written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, steps: int, seconds: float
) -> list[int]:
    """Return the steps after which the file was new, of a training of so many slow steps."""
    clock = SimpleNamespace(monotonic=lambda: trainer.global_step * seconds)
    trainer: Any = SimpleNamespace(
        global_step=0,
        estimated_stepping_batches=steps,
        current_epoch=0,
        is_global_zero=True,
        callback_metrics={},
    )
    monkeypatch.setattr("stelab.lab.training.progress.time", clock)
    file, found = ProgressFile(RunFolder(folder)), list[int]()
    path = RunFolder(folder).progress
    file.on_train_start(trainer, None)
    for step in range(1, steps + 1):
        trainer.global_step = step
        file.on_train_batch_end(trainer, None, None, None, 0)
        if path.exists():
            found.append(json.loads(path.read_text())["step"])
            path.unlink()
    return found


@pytest.mark.parametrize("seconds", [0.5, 60.0])
def test_once_a_per_cent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    found = written(tmp_path, monkeypatch, steps=10_000, seconds=seconds)
    assert found == [1, *range(100, 10_001, 100)]


def test_once_a_second_and_after_the_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = written(tmp_path, monkeypatch, steps=10_500, seconds=1 / 1024)
    assert found == [1, *range(1025, 10_500, 1024), 10_500]


def test_few_slow_steps_are_all_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(tmp_path, monkeypatch, steps=7, seconds=5) == [1, 2, 3, 4, 5, 6, 7]
