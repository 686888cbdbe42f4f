"""The fuzzing suite sees what it looks for, and makes the same artefact again from its seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile
import pytest
from harness import SECRET, Outcome, snapshot

FINE: dict[str, Any] = {
    **{"argv": ("status",), "code": 0, "out": "1 run\n", "err": "", "seconds": 1.0},
    **{"mebibytes": 400.0, "changed": ["outputs/a"], "canary": False},
}
WRONG = [
    ({"code": None}, "hung"),
    ({"code": -6}, "exit code -6"),
    ({"code": 3, "err": "x"}, "exit code 3"),
    ({"code": 2}, "without a word"),
    ({"code": 1, "err": "Traceback (most recent call last):\nValueError: x\n"}, "ValueError: x"),
    ({"code": 2, "err": "x\n" * 41}, "41 lines"),
    ({"mebibytes": 1025.0}, "1025 MiB"),
    ({"changed": ["outputs/a", "elsewhere"]}, "elsewhere"),
    ({"changed": ["outputs-2"]}, "outputs-2"),
    ({"canary": True}, "canary"),
    ({"out": f"x {SECRET}"}, "secret"),
    ({"changed": [f"outputs/{SECRET}"]}, "secret"),
    ({"out": "\x1b[2J"}, "control characters"),
    ({"err": "\x9b2J"}, "control characters"),
    ({"out": "a\rb"}, "control characters"),
]


def test_nothing_is_found_where_all_is_well() -> None:
    assert Outcome(**FINE).broken(writes=("outputs",), foreign=True) == []
    refused = {**FINE, "code": 2, "err": "stelab: seed must be\tan integer, got é\n", "changed": []}
    assert Outcome(**refused).broken(foreign=True) == []


@pytest.mark.parametrize(("wrong", "expected"), WRONG, ids=lambda value: str(value)[:30])
def test_each_property_is_looked_at(wrong: dict[str, Any], expected: str) -> None:
    (found,) = Outcome(**{**FINE, **wrong}).broken(writes=("outputs",), foreign=True)
    assert expected in found


@pytest.mark.parametrize("kind", ["codes", "images", "yaml"])
def test_an_artefact_is_made_again_by_its_seed(tmp_path: Path, kind: str) -> None:
    for seed in range(10):
        twice = [tmp_path / f"{seed}-{i}" for i in range(2)]
        for folder in twice:
            hostile.make(kind, folder, seed, run=tmp_path, canary=tmp_path / "canary")
        first, second = map(snapshot, twice)
        assert {k: v[:2] for k, v in first.items()} == {k: v[:2] for k, v in second.items()}
