"""What a stopped run is compared with: the same run, undisturbed, bit by bit."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stelab.engine.studies import Run
from stelab.lab.training.module import TaskModule


def weights(run: Run, name: str) -> dict[str, Any]:
    content = torch.load(run.folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    state: dict[str, Any] = content["state_dict"]
    return state


def curves(run: Run) -> dict[str, list[tuple[int, float]]]:
    """All of TensorBoard's scalars but timings, in the order in which its files were begun."""
    found: dict[str, list[tuple[int, float]]] = {}
    files = [EventAccumulator(str(path)).Reload() for path in (run.folder / "tb").glob("events*")]
    for events in sorted(files, key=lambda events: events.FirstEventTimestamp()):
        for tag in events.Tags()["scalars"]:
            if not tag.startswith("time/"):
                found.setdefault(tag, []).extend((e.step, e.value) for e in events.Scalars(tag))
    return found


def assert_same(run: Run, whole: Run) -> None:
    """Compare all that a run leaves behind but when and where it ran."""
    assert run.name == whole.name
    assert (run.folder / "metrics.csv").read_bytes() == (whole.folder / "metrics.csv").read_bytes()
    for name in ("last", "best"):
        ours, theirs = weights(run, name), weights(whole, name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name
    assert curves(run) == curves(whole)
    where: dict[str, object] = {"metrics": {}, "timings": {}, "composition": {}}
    ours, theirs = ({**r.record, **where} for r in (run, whole))
    assert ours == theirs
    for record in (run.metrics, whole.metrics):
        record.pop("time/images_per_s", None)
    assert run.metrics == whole.metrics
    assert files(run) == files(whole), files(run) ^ files(whole)


def files(run: Run) -> set[str]:
    paths = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*")}
    return {path for path in paths if not path.startswith("tb/events")}


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], object]) -> None:
    """Let something happen while this step is taken, whether or not callbacks watch it."""
    optimizer_step = TaskModule.optimizer_step

    def patched(self: TaskModule, *arguments: Any, **named: Any) -> None:
        optimizer_step(self, *arguments, **named)
        if self.global_step + 1 == step:
            action()

    monkeypatch.setattr(TaskModule, "optimizer_step", patched)


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Let a real signal come while this step is taken."""
    at_step(monkeypatch, step, lambda: signal.raise_signal(number))
