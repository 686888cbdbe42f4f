"""The number of threads that a run takes by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import stelab
from stelab.engine.studies.record import RunFolder
from stelab.lab.training.threads import threads_before, threads_of

HAS = {"torch": 24, "process": 32}


@pytest.mark.parametrize(
    ("overrides", "has", "taken"),
    [
        ("", {}, 8),  # where more do not pay
        ("", {"torch": 4}, 4),
        ("", {"process": 3}, 3),
        ("", {"SLURM_CPUS_PER_TASK": 2}, 2),
        ("", {"process": 6, "SLURM_CPUS_PER_TASK": 20}, 6),
        ("trainer.devices=[0,1,2]", {}, 8),
        ("trainer.devices=4", {}, 6),
        ("trainer.devices=auto", {"torch": 5}, 5),
        ("trainer.devices=4", {"process": 3}, 1),
        ("threads=17", {"process": 2}, 17),
    ],
)
def test_threads_of(
    monkeypatch: pytest.MonkeyPatch, overrides: str, has: dict[str, int], taken: int
) -> None:
    has = HAS | has
    monkeypatch.setattr(torch, "get_num_threads", lambda: has["torch"])
    monkeypatch.setattr("stelab.lab.training.threads.cpu_count", lambda: has["process"])
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    if slurm := has.get("SLURM_CPUS_PER_TASK"):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", str(slurm))
    assert threads_of(stelab.compose(*overrides.split())) == taken


def test_threads_before_are_those_of_a_record_that_says_so(tmp_path: Path) -> None:
    folder, found = RunFolder(tmp_path), list[int | None]()
    for record in (None, {"status": "running", "metrics": {}}):
        for machine in ({}, {"threads": 3}):
            if record is not None:
                folder.record.write_text(json.dumps({**record, "machine": machine}))
            found.append(threads_before(folder))
    assert found == [None, None, None, 3]
