"""Arguments of Lightning's Trainer that few configurations set, and what is monitored."""

from __future__ import annotations

import csv
import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig

import stelab
from conftest import train
from stelab.annealing import Scheduled
from stelab.engine.errors import InputError, RunError
from stelab.engine.studies import Run, read_run
from stelab.lab.training.building import build_trainer
from stelab.lab.training.checkpoint_file import read_checkpoint
from stelab.lab.training.module import TaskModule
from stelab.lab.training.schedules import build_schedule

FOUR_STEPS = ("data.limit=256", "trainer.log_every_n_steps=3")  # an epoch


def rows(run: Run) -> list[dict[str, str]]:
    with (run.folder / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_argument_is_a_key_or_is_said_to_be_elsewhere() -> None:
    for name, parameter in inspect.signature(pl.Trainer).parameters.items():
        try:
            end = () if name == "max_steps" else ("trainer.max_steps=9",)
            cfg = stelab.compose(f"trainer.{name}={_written(parameter.default)}", *end)
            assert name in cfg.trainer
        except InputError as error:
            assert f"trainer.{name} is not a key here: " in str(error) or (
                parameter.default is None and f"trainer.{name} must be " in str(error)
            ), error


def _written(value: object) -> str:
    return "null" if value is None else str(value)


def test_absent_keys_leave_the_run_what_it_is(tmp_path: Path) -> None:
    cfg = stelab.compose()
    assert "max_steps" not in cfg.trainer
    assert Path(cfg.paths.run).name == "identity-fixed0-s0-409d12f3"


def test_max_steps_end_a_run_within_an_epoch(tmp_path: Path) -> None:
    limits = ("trainer.max_epochs=null", "trainer.max_steps=6", "estimator=ede")
    run = train(tmp_path, *FOUR_STEPS, *limits)
    assert [(row["epoch"], row["step"]) for row in rows(run)] == [("0", "4"), ("1", "6")]
    assert all(row["val/loss"] for row in rows(run))
    assert run.metrics["val/loss"] == float(rows(run)[-1]["val/loss"])
    assert read_run(run.folder).record["epochs"] == 2
    assert stelab.train(stelab.compose(*_small(tmp_path), *FOUR_STEPS, *limits)) == run  # finished
    state = read_checkpoint(run.folder / "checkpoints" / "last.ckpt")["state_dict"]
    (progress,) = (value for name, value in state.items() if name.endswith("progress"))
    assert progress == 1.0
    assert issubclass(type(stelab.build(stelab.compose("estimator=ede").estimator)), Scheduled)


def _small(outputs: Path) -> tuple[str, ...]:
    return ("debug=fast", "model=mlp", "model.bits=512", f"paths.outputs={outputs}")


def test_fewer_batches(tmp_path: Path) -> None:
    run = train(tmp_path, *FOUR_STEPS, "trainer.limit_train_batches=0.5")
    assert [row["step"] for row in rows(run)] == ["2"]


def test_a_development_run_is_a_whole_run_of_a_batch(tmp_path: Path) -> None:
    run = train(tmp_path, *FOUR_STEPS, "trainer.fast_dev_run=true", "trainer.max_epochs=9")
    assert [(row["epoch"], row["step"]) for row in rows(run)] == [("0", "1")]
    assert run.metrics["test/mse"] > 0


def test_overfitting_sees_the_same_batches(tmp_path: Path) -> None:
    overfit = ("trainer.overfit_batches=1", "trainer.max_epochs=3", "optimizer=sgd")
    still = ("optimizer.lr=1e-9", "optimizer.momentum=0.0")
    run = train(tmp_path, *FOUR_STEPS, *overfit, *still)
    losses = [float(row["train/mse"]) for row in rows(run)]
    assert [row["step"] for row in rows(run)] == ["1", "2", "3"]
    assert losses[1:] == pytest.approx(losses[:1] * 2, rel=1e-4)


def test_best_is_of_the_best_validation_also_within_an_epoch(tmp_path: Path) -> None:
    climbing = ("optimizer=sgd", "optimizer.lr=50.0", "trainer.max_epochs=1")
    run = train(tmp_path, *FOUR_STEPS, *climbing, "trainer.val_check_interval=1")
    folder = run.folder / "checkpoints"
    best, last = (read_checkpoint(folder / f"{name}.ckpt") for name in ("best", "last"))
    assert best["metrics"]["val/loss"] <= last["metrics"]["val/loss"]
    assert best["callbacks"]["Checkpoints"]["best"] == best["metrics"]["val/loss"]


def test_higher_is_better(tmp_path: Path) -> None:
    run = train(
        tmp_path, *FOUR_STEPS, "monitor=code/entropy", "better=higher", "trainer.max_epochs=3"
    )
    best = read_checkpoint(run.folder / "checkpoints" / "best.ckpt")
    entropies = [float(row["code/entropy"]) for row in rows(run)]
    assert best["metrics"]["code/entropy"] == max(entropies)
    assert min(entropies) < max(entropies)


def test_what_nothing_logs_is_told_after_the_first_validation(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="monitor is val/mes, which .* by step 4; .*'val/mse'") as e:
        train(tmp_path, *FOUR_STEPS, "monitor=val/mes", "better=lower", "trainer.max_epochs=3")
    assert "\n" not in str(e.value)
    (folder,) = (tmp_path / "debug").iterdir()
    assert read_run(folder).status == "failed"


def test_a_metric_from_the_second_epoch_on_is_waited_for(tmp_path: Path) -> None:
    flips = (*FOUR_STEPS, "monitor=code/flip_ratio", "better=lower")
    run = train(tmp_path, *flips, "trainer.max_epochs=3", "trainer.val_check_interval=2")
    best = read_checkpoint(run.folder / "checkpoints" / "best.ckpt")
    ratios = [float(row["code/flip_ratio"]) for row in rows(run)[1:]]
    assert best["metrics"]["code/flip_ratio"] == min(ratios)
    with pytest.raises(InputError, match="no value before the second epoch"):
        train(tmp_path, *flips, "trainer.max_epochs=1")
    with pytest.raises(RunError, match="monitor is code/flip_ratio, which nothing has logged by"):
        train(tmp_path, *flips, "trainer.max_epochs=3", "trainer.max_steps=4")
    with pytest.raises(RunError, match="monitor is code/flip_ratio, which nothing has logged by"):
        train(tmp_path, *flips, "trainer.max_epochs=3", "~callbacks.code")


def learning_rates(tmp_path: Path, *overrides: str) -> list[float]:
    found: list[float] = []

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
            found.append(trainer.optimizers[0].param_groups[0]["lr"])

    def build(cfg: DictConfig, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
        return build_trainer(cfg, callbacks=[*callbacks, Look()])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stelab.lab.training.run.build_trainer", build)
        train(tmp_path, *FOUR_STEPS, "trainer.max_epochs=2", *overrides)
    return found


def test_schedules_step_by_step(tmp_path: Path) -> None:
    warmup = learning_rates(tmp_path, "scheduler=warmup", "scheduler.warmup=0.5", "optimizer.lr=1")
    assert warmup[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert warmup[6] == pytest.approx(0.5)
    one_cycle = learning_rates(tmp_path, "scheduler=onecycle", "scheduler.pct_start=0.5")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([parameter], lr=1e-3)
    expected = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1e-3, total_steps=8, pct_start=0.5
    )
    for lr in one_cycle:
        assert lr == expected.get_last_lr()[0]
        optimizer.step()
        expected.step()


class Table(torch.optim.lr_scheduler.LambdaLR):
    """A schedule that a table says."""

    def __init__(self, optimizer: torch.optim.Optimizer, *, shares: dict[str, float]):
        super().__init__(optimizer, lambda epoch: shares.get(str(epoch), 0.0))


def test_a_schedule_may_take_a_table() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=8.0)
    node = {"_target_": "test_trainer_keys.Table", "shares": {"0": 0.5, "1": 0.25}}
    schedule = build_schedule(node, optimizer=optimizer, count=lambda interval: 2)["scheduler"]
    found = [*schedule.get_last_lr()]
    for _ in range(2):
        optimizer.step()
        schedule.step()
        found += schedule.get_last_lr()
    assert found == [4.0, 2.0, 0.0]


def test_a_cosine_ends_with_the_run_by_epochs_and_by_steps(tmp_path: Path) -> None:
    by_epoch = learning_rates(tmp_path, "scheduler=cosine", "optimizer.lr=1")
    assert by_epoch == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5])
    by_step = learning_rates(
        tmp_path, "scheduler=cosine", "+scheduler.interval=step", "optimizer.lr=1"
    )
    assert by_step == pytest.approx([(1 + math.cos(math.pi * t / 8)) / 2 for t in range(8)])
    own = ("scheduler=cosine", "+scheduler.interval=step", "scheduler.T_max=2", "optimizer.lr=1")
    assert learning_rates(tmp_path, *own)[2] == pytest.approx(0)
    assert stelab.compose("scheduler=cosine", "trainer.max_epochs=20").scheduler.T_max == 20
    with pytest.raises(InputError, match=r"trainer.max_epochs is null, so"):
        stelab.compose("scheduler=cosine", "trainer.max_epochs=null", "trainer.max_steps=9")


def test_a_plateau_needs_a_metric(tmp_path: Path) -> None:
    plateau = "scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau"
    with pytest.raises(InputError, match="scheduler.monitor must name the metric"):
        train(tmp_path, plateau, "scheduler.factor=0.5")


def test_channels_last_is_how_a_network_lies_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels, what convolutions make and the optimizer's state; and a run learns the same."""
    seen: list[bool] = []
    last = {"memory_format": torch.channels_last}

    def note(self: TaskModule, *_: Any) -> None:
        encoder: Any = self.model.encoder
        kernel, made = encoder[2].weight, encoder[:2](torch.zeros(2, 1, 28, 28))
        (optimizer,) = self.trainer.optimizers
        state = optimizer.state[kernel]["exp_avg"]
        seen.extend(part.is_contiguous(**last) for part in (kernel, made, state))

    monkeypatch.setattr(TaskModule, "on_train_epoch_end", note)
    found = {}
    for value in ("true", "false"):
        found[value] = train(tmp_path, "model=conv", f"trainer.channels_last={value}").metrics
    assert seen == [True] * 3 + [False] * 3
    assert found["true"]["test/mse"] == pytest.approx(found["false"]["test/mse"], rel=1e-3)
    assert found["true"] != found["false"]  # sums round otherwise: another run
