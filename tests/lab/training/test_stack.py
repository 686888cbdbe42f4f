"""Runs in a stack are the runs that they would be alone."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stelab
from conftest import Cli, Start, train
from resuming import curves, files, weights
from stelab.engine.studies import Run, read_run
from stelab.engine.studies.lock import locked
from stelab.engine.studies.record import RunFolder
from stelab.estimators import Identity
from stelab.lab.bench.counting import Counter
from stelab.lab.data import MNIST5k
from stelab.lab.data.datamodule import Batch
from stelab.lab.models import Autoencoder, mlp
from stelab.lab.training import SquaredError, stack
from stelab.lab.training.building import build_data, build_module
from stelab.lab.training.finite import NonFiniteError
from stelab.lab.training.run import train_checked
from stelab.lab.training.stack import Seat, train_stacked
from stelab.lab.training.stackable import kind, why_alone, why_settings_are_alone
from stelab.lab.training.stacked_step import StackedStep
from waiting import PATIENCE

# Rounding decides where Adam goes that has no gradient, such as a bias before batch norm.
SMALL = ("debug=fast", "model=mlp", "model.bits=32", "model.hidden=16", "data.limit=200")
TWO_EPOCHS = (*SMALL, "trainer.max_epochs=2", "optimizer=sgd", "callbacks.gradient.every_n_steps=3")
FOUR = [(f"seed={s}", f"threshold.value={t}") for s in (0, 1) for t in (0.0, 0.25)]


def stacked(outputs: Path, jobs: Sequence[Sequence[str]], *shared: str) -> list[Any]:
    """Train in a stack; return the runs, what has failed, and None of those left alone."""

    def runner(*overrides: str) -> tuple[Any, Callable[[Seat], Any]]:
        cfg = stelab.compose(*shared, *overrides, f"paths.outputs={outputs}")

        def run(seat: Seat) -> Any:
            try:
                return train_checked(cfg, seat)
            except NonFiniteError as error:
                return error

        return cfg, run

    return train_stacked([runner(*job) for job in jobs])


def assert_near(run: Run, alone: Run, tolerance: float = 1e-6) -> None:
    """Compare all that a run leaves behind, numbers up to rounding."""
    assert run.name == alone.name
    assert files(run) == files(alone)
    for name in ("last", "best"):
        ours, theirs = weights(run, name), weights(alone, name)
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, rtol=tolerance, atol=tolerance)
    mine, others = curves(run), curves(alone)
    assert {tag: [step for step, _ in points] for tag, points in mine.items()} == {
        tag: [step for step, _ in points] for tag, points in others.items()
    }
    for tag, points in others.items():
        assert [v for _, v in mine[tag]] == pytest.approx(
            [v for _, v in points], rel=1e-4, abs=1e-5
        )


@pytest.mark.filterwarnings("ignore:every bit is")
@pytest.mark.parametrize(
    "choices",
    [
        "model=mlp",
        "model=conv data.limit=24 data.batch_size=8 trainer.max_epochs=1",
        # Most steps are watched by nobody, and some looked into where they are taken.
        "estimator=noise_annealed scheduler=onecycle data.batch_size=16 "
        "trainer.log_every_n_steps=50",
        "data=binarized_mnist5k threshold=running_median optimizer.weight_decay=0.01",
        "optimizer=adamw model.norm=none trainer.val_check_interval=2",
        "task=elbo loss=bernoulli model=vae_categorical data.mean=0 data.std=1",
    ],
)
def test_a_stack_of_runs_is_the_runs(tmp_path: Path, choices: str) -> None:
    split = choices.split()
    rates = [("seed=0", "optimizer.lr=0.01"), ("seed=1", "optimizer.lr=0.005")]
    jobs = FOUR if choices.startswith("model") else rates
    shared = [*TWO_EPOCHS, *split]
    if "model.hidden=16" in shared and not {"model=conv", "model=vae_categorical"}.isdisjoint(
        split
    ):
        shared.remove("model.hidden=16")
    runs = stacked(tmp_path / "stack", jobs, *shared)
    for run, job in zip(runs, jobs, strict=True):
        assert run.record["executor"] == f"stacked of {len(jobs)}"
        alone = train(tmp_path / "alone", *shared, *job)
        assert alone.record["executor"] == "alone"
        assert_near(run, alone)


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count the kernels of a stack's steps."""
    kernels: list[int] = []
    step = stack._Stack._step

    def counting(self: Any) -> None:
        with Counter() as counter:
            step(self)
        kernels.append(counter.kernels)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(stack._Stack, "_step", counting)
        yield kernels


@pytest.mark.parametrize("choices", ["model=mlp", "model=conv ~model.hidden"])
def test_more_runs_are_no_more_kernels(tmp_path: Path, choices: str) -> None:
    shared = (*SMALL, "optimizer=adamw", "data.limit=24", "data.batch_size=4", *choices.split())
    found = []
    for count in (2, 4):
        own = (
            (f"seed={i}", f"threshold.value={i / 8}", f"optimizer.lr={1 + i}e-3")
            for i in range(count)
        )
        with counted() as kernels:
            stacked(tmp_path / str(count), [*own], *shared)
        found.append(min(kernels))  # of a step that nobody watches, and that traced nothing
    assert found[0] == found[1]


@pytest.mark.parametrize("step", ["eager", "graph"])
def test_a_stack_moves_to_the_device_that_it_trains_on(step: str) -> None:
    """What is computed before that, on the CPU, comes along."""
    cfg = stelab.compose(*SMALL, "estimator=bernoulli_st", "threshold=annealed")
    modules = [build_module(cfg).train() for _ in range(2)]
    for module in modules:
        module.kind = step  # type: ignore[assignment]
    example = build_data(cfg).first_batch()
    alike = StackedStep(modules, {})
    alike.require_same({name: torch.stack([part] * 2) for name, part in example.items()})
    zeros = alike.looks(example)
    assert len(zeros) == 1

    moved = StackedStep([module.to("meta") for module in modules], {}, zeros)
    batch = {name: torch.stack([part] * 2).to("meta") for name, part in example.items()}
    gradients, checked, logged, (seen,) = moved.differentiate(batch, [0, 0], looks=True)
    assert {*seen} == {"saturation", "zero_grad_fraction", "grad_norm", "clip_fraction"}
    values = (*gradients, checked, *logged.values(), *seen.values())
    assert {value.device.type for value in values} == {"meta"}
    assert {len(value) for value in values} == {2}


def test_a_loss_that_is_not_finite_ends_one_run_alone(tmp_path: Path) -> None:
    jobs = [("seed=0",), ("seed=1", "optimizer.lr=1e38"), ("seed=2",)]
    first, failed, third = stacked(tmp_path / "stack", jobs, *TWO_EPOCHS)
    with pytest.raises(NonFiniteError) as error:
        train(tmp_path / "alone", *TWO_EPOCHS, *jobs[1])
    assert str(failed) == str(error.value)
    for run, job in ((first, jobs[0]), (third, jobs[2])):
        assert_near(run, train(tmp_path / "alone", *TWO_EPOCHS, *job))


class Fragile(SquaredError):
    """Cannot be computed of few images, as there are at an epoch's end."""

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Break."""
        if self.training and len(images) < 64:
            raise RuntimeError("the loss broke")
        return super().forward(reconstruction, images)


def test_a_step_that_breaks_is_a_failure_of_each_run(tmp_path: Path) -> None:
    choices = ("loss._target_=test_stack.Fragile", "callbacks.gradient.every_n_steps=9")
    with pytest.raises(RuntimeError, match="^the loss broke"):
        stacked(tmp_path, FOUR[:2], *TWO_EPOCHS, *choices)
    runs = [read_run(folder) for folder in (tmp_path / "debug").iterdir()]
    assert [run.status for run in runs] == ["failed"] * 2
    assert all("the loss broke" in run.record["error"] for run in runs)


class Branching(Identity):
    """Decides by a number."""

    def forward(self, s: Tensor, **options: Any) -> Tensor:
        """Branch."""
        return super().forward(s if s.sum() > 0 else -s, **options)


class Counting(Identity):
    """Remembers what no other run of its program does."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def forward(self, s: Tensor, **options: Any) -> Tensor:
        """Count."""
        self._calls += not s.is_meta
        return super().forward(s * self._calls, **options)


def idle(**options: Any) -> Autoencoder:
    """Make a network with weights that its loss does not depend on."""
    model = mlp(**options)
    model.idle = nn.Linear(1, 1)
    return model


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ("estimator._target_=test_stack.Branching", "data-dependent"),
        ("estimator._target_=test_stack.Counting", "stacked, its gradient differs by"),
        ("model._target_=test_stack.idle", "the loss does not depend on model.idle."),
    ],
)
def test_a_step_that_is_no_program_for_many_is_not_stacked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, choice: str, reason: str
) -> None:
    with caplog.at_level(logging.INFO):
        assert stacked(tmp_path, FOUR[:2], *TWO_EPOCHS, choice) == [None, None]
    lines = [line for line in caplog.messages if "is not stacked: " in line]
    assert len(lines) == 2
    assert all("its step is no program for many: " in line and reason in line for line in lines)
    assert not list(tmp_path.rglob("run.json"))


def test_a_stack_waits_for_no_other_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = stelab.compose(*TWO_EPOCHS, f"paths.outputs={tmp_path}", *FOUR[0])
    folder = RunFolder.of(cfg)
    with caplog.at_level(logging.INFO), locked(folder.path, on_loss=lambda: None):
        assert stacked(tmp_path, FOUR[:2], *TWO_EPOCHS) == [None, None]
    assert f"{folder.name} is not stacked: another process trains it right now" in caplog.messages


KILL = """
import os
from stelab.lab.training import stack
step, taken = stack._Stack._step, []
def patched(self):
    step(self)
    taken.append(1)
    if len(taken) == {step}:
        os.kill(os.getpid(), {number})
stack._Stack._step = patched
from stelab.apps.main import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stack_that_was_stopped_continues_alone_and_stacked(
    tmp_path: Path, start: Start, number: int
) -> None:
    shared = (*TWO_EPOCHS, "checkpoint.every_n_steps=1", f"paths.outputs={tmp_path / 'stack'}")
    seeds = [("seed=0",), ("seed=1",), ("seed=2",)]
    code = KILL.format(step=4, number=int(number))
    sweep = ("-m", "hydra/launcher=stacked", "seed=0,1,2")
    process = start("train", *sweep, *shared, code=code)
    process.communicate(timeout=PATIENCE)
    assert process.wait() == (-number if number == signal.SIGKILL else 128 + number)
    (study,) = (tmp_path / "stack").iterdir()
    states = {read_run(folder).status for folder in study.glob("identity*")}
    assert states == {"running" if number == signal.SIGKILL else "interrupted"}
    alone = train(tmp_path / "stack", *TWO_EPOCHS, "checkpoint.every_n_steps=1", *seeds[0])
    rest = stacked(tmp_path / "stack", seeds[1:], *TWO_EPOCHS, "checkpoint.every_n_steps=1")
    for run, seed in zip([alone, *rest], seeds, strict=True):
        first, last = run.record["timings"]["attempts"]
        assert first["executor"] == "stacked of 3"
        assert last["executor"] == run.record["executor"] != "stacked of 3"
        assert last["from_step"] > 0
        assert_near(run, train(tmp_path / "whole", *TWO_EPOCHS, *seed))


def test_runs_that_stand_at_different_steps_are_stacked(tmp_path: Path) -> None:
    """Also where they have the smaller batch at an epoch's end at different times."""
    shared = (*TWO_EPOCHS, "checkpoint.every_n_steps=1", "callbacks.gradient.every_n_steps=9")
    with pytest.MonkeyPatch.context() as monkeypatch:
        from resuming import stop_at

        stop_at(monkeypatch, 2)
        with pytest.raises(SystemExit):
            train(tmp_path / "stack", *shared, "seed=0")
    runs = stacked(tmp_path / "stack", [("seed=0",), ("seed=1",)], *shared)
    steps = [run.record["timings"]["attempts"][-1]["from_step"] for run in runs]
    assert steps == [2, 0]
    for run, seed in zip(runs, ("seed=0", "seed=1"), strict=True):
        assert run.record["executor"] == "stacked of 2"
        assert_near(run, train(tmp_path / "alone", *shared, seed))


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ("trainer.precision=bf16-mixed", "trainer.precision=32-true"),
        ("trainer.gradient_clip_val=1.0", "trainer.gradient_clip_val=None"),
        ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches=1"),
        ("trainer.devices=2", "of one device"),
        ("optimizer=radam", "fused optimizer"),
        ("optimizer.fused=false", "fused optimizer"),
        ("optimizer=sgd +optimizer.dampening=0.5", "no optimizer.dampening"),
        ("logger=wandb", "one run of Weights & Biases at a time"),
        ("+callbacks.every._target_=test_steps.Every", "callbacks.every looks at every step"),
    ],
)
def test_settings_that_are_not_stacked(choice: str, reason: str) -> None:
    assert not why_settings_are_alone(stelab.compose(*SMALL))
    assert reason in why_settings_are_alone(stelab.compose(*SMALL, *choice.split()))


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ("estimator=rebar", "its estimator trains what lowers its variance"),
        ("estimator=muprop", "MuProp differentiates the loss itself"),
        ("data._target_=test_steps.Moved", "something is done to its batches on their way"),
    ],
)
def test_parts_that_are_not_stacked(choice: str, reason: str) -> None:
    cfg = stelab.compose(*SMALL, choice)
    assert why_alone(build_module(cfg), build_data(cfg)) == reason


class OfItsSeed(MNIST5k):
    """Other images for each seed."""

    def load(self, split: str) -> Batch:
        images = super().load(split)["images"]
        return {"images": images.roll(self.seed, -1)}


def test_runs_of_other_images_keep_them(tmp_path: Path) -> None:
    shared = (*TWO_EPOCHS, "data._target_=test_stack.OfItsSeed")
    for run, seed in zip(
        stacked(tmp_path / "stack", [("seed=0",), ("seed=3",)], *shared), (0, 3), strict=True
    ):
        assert_near(run, train(tmp_path / "alone", *shared, f"seed={seed}"))


def test_only_numbers_may_differ() -> None:
    same = kind(stelab.compose(*SMALL))
    for number in ("seed=3", "optimizer.lr=0.5", "threshold.value=0.25", "study=other"):
        assert kind(stelab.compose(*SMALL, number)) == same
    for other in ("estimator=reinmax", "data.batch_size=8", "trainer.max_epochs=7", "model=conv"):
        words = [word for word in SMALL if other != "model=conv" or "hidden" not in word]
        assert kind(stelab.compose(*words, other)) != same


def test_what_cannot_be_stacked_trains_beside_it(cli: Cli, tmp_path: Path) -> None:
    command = ("train", "-m", "hydra/launcher=stacked", *SMALL, "model.bits=8", "model.norm=none")
    done = cli(*command, "estimator=identity,muprop", "optimizer.fused=true,false", "seed=0,1")
    assert done.returncode == 0, done.stderr
    executors: dict[str, list[str]] = {}
    for path in tmp_path.glob("outputs/debug/*/run.json"):
        run = read_run(path.parent)
        key = f"{run.config['names']['estimator']} {run.config['optimizer']['fused']}"
        executors.setdefault(key, []).append(json.loads(path.read_text())["executor"])
    assert executors.pop("identity True") == ["stacked of 2"] * 2
    assert executors == dict.fromkeys(
        ("identity False", "muprop True", "muprop False"), ["alone"] * 2
    )
    assert done.stdout.count("is not stacked: MuProp differentiates the loss itself") == 2
    assert done.stdout.count("not stacked: stacked runs have a fused optimizer") == 4


def test_optuna_stacks_its_trials(cli: Cli, tmp_path: Path) -> None:
    search = ("sweep=optuna", "optimizer.lr=interval(0.01,0.1)", "hydra.sweeper.n_trials=2")
    done = cli("train", *search, "hydra/launcher=stacked", *TWO_EPOCHS, "seed=0,1")
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/debug/*/run.json")]
    assert [record["executor"] for record in records] == ["stacked of 4"] * 4
