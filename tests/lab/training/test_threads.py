"""The number of threads that a run takes by itself."""

from __future__ import annotations

import pytest
import torch

import stelab
from stelab.lab.training.threads import threads_of

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
