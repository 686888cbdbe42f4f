"""Steps that nobody watches: the same numbers, seen by who needs it, without a wait."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer

import stelab
from conftest import train
from resuming import curves, weights
from stelab.lab.data import MNIST5k
from stelab.lab.data.datamodule import Batch
from stelab.lab.training.module import TaskModule
from stelab.lab.training.steps import EpochLoop
from waits import Waits

WATCHED = "+callbacks.every._target_=test_steps.Every"


class Every(Callback):
    """Has a hook around steps, and does not say which it needs."""

    seen = 0

    def on_train_batch_end(self, *_: Any) -> None:
        """Count."""
        Every.seen += 1


class Third(Callback):
    """Says which it needs, and that it only looks at them."""

    plain = True

    seen: list[int] = []  # noqa: RUF012

    def watches(self, trainer: Trainer, index: int) -> bool:
        """The fourth batch of an epoch."""
        return index == 3

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, index: int) -> None:
        """Note which."""
        Third.seen.append(index)

    def on_train_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        """Note that it is over."""
        Third.seen.append(-index)


class Moved(MNIST5k):
    """Changes batches on their way to the device."""

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Turn black to white."""
        return {**batch, "images": -batch["images"]}


MLP = ["debug=fast", "model=mlp"]
KINDS = (
    [*MLP, "estimator=hardtanh_clip", "scheduler=onecycle", "scheduler.max_lr=0.01"],
    [*MLP, "model.norm=group", "estimator=rebar", "threshold=annealed"],
    [
        *MLP,
        "trainer.gradient_clip_val=0.1",
        "trainer.precision=bf16-mixed",
        "optimizer.fused=false",
    ],
    [*MLP, "trainer.max_steps=27", "trainer.val_check_interval=5", "optimizer=sgd"],
    [*MLP, "data._target_=test_steps.Moved", "optimizer=sgd"],
    ["experiment=quickstart_classify"],
)


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_who_watches_changes_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: list[str]
) -> None:
    taken: Counter[str] = Counter()
    step = EpochLoop.step
    monkeypatch.setattr(EpochLoop, "step", lambda *a: (taken.update(["unwatched"]), step(*a)))
    sizes = ["data.limit=400", "data.batch_size=16", "trainer.max_epochs=2"]
    alone = stelab.train(stelab.compose(f"paths.outputs={tmp_path}", *kind, *sizes))
    assert taken["unwatched"] > 0
    taken.clear()
    watched = stelab.train(stelab.compose(f"paths.outputs={tmp_path}", *kind, *sizes, WATCHED))
    assert not taken
    tables = [(run.folder / "metrics.csv").read_bytes() for run in (alone, watched)]
    assert tables[0] == tables[1]
    assert curves(alone) == curves(watched)
    ours, theirs = (weights(run, "last") for run in (alone, watched))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_callback_sees_the_steps_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Every.seen, Third.seen = 0, []
    sizes = ["data.limit=640", "data.batch_size=16", "~callbacks.gradient"]
    third = "+callbacks.third._target_=test_steps.Third"
    plain: list[int] = []
    step = EpochLoop.step

    def noted(self: EpochLoop, *arguments: Any) -> None:
        plain.append(self.batch_progress.current.ready)
        step(self, *arguments)

    monkeypatch.setattr(EpochLoop, "step", noted)
    train(tmp_path / "third", *sizes, third)
    assert 3 in plain
    seen = Third.seen.index(3)
    assert Third.seen[seen + 1] == -3
    assert len(Third.seen) < 20  # the first, the one it asks for, one a quarter second, the last
    train(tmp_path / "every", *sizes, WATCHED)
    assert Every.seen == 40


@pytest.mark.parametrize("estimator", ["identity", "hardtanh_clip", "slope_annealed", "dsq"])
def test_no_step_waits_for_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, estimator: str
) -> None:
    waits, steps = Waits(), Counter[str]()
    optimizer_step = TaskModule.optimizer_step

    def spied(self: TaskModule, *arguments: Any, **named: Any) -> None:
        # From a look at the device to the next one.
        if self.global_step and len(self.finite.recent) in range(1, self.finite.every - 1):
            steps.update(["spied"])
            with waits:
                return optimizer_step(self, *arguments, **named)
        return optimizer_step(self, *arguments, **named)

    monkeypatch.setattr(TaskModule, "optimizer_step", spied)
    train(tmp_path, "model=mlp", f"estimator={estimator}", "data.batch_size=16", "data.limit=640")
    assert steps["spied"] > 5
    assert not waits.found


def test_what_waits_is_noticed() -> None:
    with Waits() as waits:
        bool(torch.ones(()) > 0)
    assert waits.found
