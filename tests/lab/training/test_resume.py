"""A run that was stopped, in whatever way, ends as if it had not been: bit by bit."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Cli, Start, train
from resuming import assert_same, at_step, stop_at
from stelab.engine.errors import InputError, RunError
from stelab.engine.studies import Run, lock, read_run
from stelab.lab.training.checkpoint_file import SealedCheckpointIO, read_checkpoint
from stelab.lab.training.interrupts import LockLost
from waiting import PATIENCE, wait_until
from zygote import Fork


def stopped(tmp_path: Path, step: int, *overrides: str, number: int = signal.SIGTERM) -> Path:
    """Train until a signal comes at `step`; return the folder."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_at(monkeypatch, step, number)
        with pytest.raises(SystemExit if number == signal.SIGTERM else KeyboardInterrupt):
            train(tmp_path, *overrides)
    (folder,) = (tmp_path / "debug").iterdir()
    assert read_run(folder).status == "interrupted"
    return folder


THREE_EPOCHS = (
    "data.limit=256",
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=3",
)  # 4 steps each


@pytest.mark.filterwarnings("ignore:every bit is constant")
@pytest.mark.parametrize(
    "choices",
    [
        "optimizer=adamw scheduler=cosine",
        "optimizer=sgd scheduler=onecycle",
        "data=binarized_mnist5k",
        "scheduler=warmup scheduler.warmup=0.4 trainer.max_steps=10",
        "scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau ~scheduler.factor "
        "scheduler.monitor=val/loss scheduler.patience=0 scheduler.threshold=0.9",
        "scheduler._target_=torch.optim.lr_scheduler.SequentialLR ~scheduler.factor "
        "scheduler.interval=step scheduler.milestones=[4] scheduler.schedulers=["
        "{_target_:torch.optim.lr_scheduler.LinearLR,start_factor:0.1,total_iters:4},"
        "{_target_:torch.optim.lr_scheduler.CosineAnnealingLR,T_max:8}]",
        "optimizer=sgd threshold=learned estimator=ede",
        "optimizer=radam threshold=running_median estimator=bernoulli_st",
        "threshold=annealed estimator=noise_annealed monitor=train/loss data.val_size=0",
        "estimator=relax model.bits=8 model.norm=none",
        "estimator=reinforce_moving_average model.norm=group",
        "callbacks=basket callbacks.basket.every_n_steps=3 callbacks.basket.samples=10 "
        "callbacks.basket.bits=4 callbacks.basket.adapt=2",
        "callbacks=variance callbacks.variance.every_n_steps=3 model.bits=8 model.norm=none "
        "estimator=relax threshold=running_median",
        "trainer.accumulate_grad_batches=3 trainer.gradient_clip_val=0.1",
        "trainer.max_epochs=null trainer.max_steps=7 estimator=ede",  # ends within an epoch
        "trainer.limit_train_batches=3 trainer.limit_val_batches=0.5",
        "trainer.val_check_interval=3 monitor=code/entropy better=higher",
        "trainer.val_check_interval=0.5 trainer.overfit_batches=2",
        "trainer.val_check_interval=5 trainer.check_val_every_n_epoch=null",
        "trainer.check_val_every_n_epoch=2",
        "trainer.precision=bf16-mixed",
        "trainer.precision=64-true",
        "model=conv data.limit=64 data.batch_size=16 trainer.channels_last=true",
    ],
)
def test_all_state_continues(tmp_path: Path, choices: str) -> None:
    overrides = (*THREE_EPOCHS, *choices.split())
    whole = train(tmp_path / "whole", *overrides)
    steps = 5 if "accumulate" not in choices else 3  # inside the second epoch
    stopped(tmp_path / "parts", steps, *overrides)
    run = train(tmp_path / "parts", *overrides)
    assert [a["from_step"] for a in run.record["timings"]["attempts"]] == [0, steps]
    assert_same(run, whole)


def test_a_continued_run_takes_the_threads_that_it_began_with(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", *THREE_EPOCHS, "threads=2")
    stopped(tmp_path / "parts", 5, *THREE_EPOCHS, "threads=2")
    for threads in ("threads=1", "rerun=true", "threads=1 rerun=true"):
        run = train(tmp_path / "parts", *THREE_EPOCHS, *threads.split())
        again = "rerun=true" in threads
        assert run.record["machine"]["threads"] == (1 if again else 2)  # here auto is 1
        if not again:
            assert_same(run, whole)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("whole"), *THREE_EPOCHS)


@pytest.mark.parametrize("step", [1, 3, 4, 5, 8, 11, 12])  # an epoch has four
def test_any_step_can_be_the_last(tmp_path: Path, undisturbed: Run, step: int) -> None:
    stopped(tmp_path, step, *THREE_EPOCHS, number=signal.SIGINT)
    assert_same(train(tmp_path, *THREE_EPOCHS), undisturbed)


def test_what_was_being_written_when_a_process_died_is_removed(
    tmp_path: Path, undisturbed: Run
) -> None:
    folder = stopped(tmp_path, 5, *THREE_EPOCHS)
    (folder / "figures").mkdir()
    for name in ("run.json", "metrics.csv", "checkpoints/last.ckpt", "figures/loss.png"):
        path = folder / name
        path.with_name(f".{path.name}.123").write_bytes(b"half")
    (folder / "progress.new").write_bytes(b"half")
    assert_same(train(tmp_path, *THREE_EPOCHS), undisturbed)


def test_several_processes_continue_together(start: Start, tmp_path: Path) -> None:
    # Forks, which import nothing; tests of training let processes start as they do by themselves.
    two = ("trainer=ddp", "trainer.devices=2", "trainer.strategy=ddp_fork")
    small = ("debug=fast", "model=mlp", "estimator=gumbel_st", "trainer.accelerator=cpu")
    command = ("train", *small, *two, *THREE_EPOCHS, "checkpoint.every_n_steps=1")
    whole = start(*command, "paths.outputs=whole")
    process = start(*command, "paths.outputs=parts")
    made = partial(tmp_path.glob, "parts/debug/*/checkpoints/last.ckpt")
    wait_until(lambda: bool(list(made())), process=process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE) == 128 + signal.SIGTERM
    (folder,) = (tmp_path / "parts" / "debug").iterdir()
    assert read_run(folder).status == "interrupted"
    again = start(*command, "paths.outputs=parts")
    assert (whole.wait(timeout=PATIENCE), again.wait(timeout=PATIENCE)) == (0, 0)
    run = read_run(folder)
    assert run.record["timings"]["attempts"][1]["from_step"] > 0
    assert_same(run, read_run(tmp_path / "whole" / "debug" / folder.name))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # it may be best.ckpt as well, which stays whole
    path.write_bytes(content)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = (*THREE_EPOCHS, "checkpoint.every_n_steps=1")
    whole = train(tmp_path / "whole", *overrides)
    for damaged, step in (("last",), 6), (("last", "previous"), 0):
        parts = tmp_path / "-".join(damaged)
        folder = stopped(parts, 7, *overrides)
        for name in damaged:
            read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")
            flip(folder / "checkpoints" / f"{name}.ckpt")
        caplog.clear()
        run = train(parts, *overrides)
        assert run.record["timings"]["attempts"][-1]["from_step"] == step
        assert caplog.text.count("is damaged: its checksum is wrong") == len(damaged)
        assert_same(run, whole)


def rewrite(path: Path, **changes: Any) -> None:
    """Save a checkpoint anew, with its seal and other content."""
    content = {**read_checkpoint(path), **changes}
    SealedCheckpointIO().save_checkpoint(content, path)


FOREIGN: dict[str, tuple[dict[str, Any], str]] = {
    "another network's": ({"state_dict": {"w": torch.ones(1)}}, "is of another network: it holds"),
    "no logs": ({"logged": None}, "does not say what was logged"),
    "a step that is none": ({"global_step": "six"}, "does not say what was logged"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_checkpoint_falls_back_to_the_one_before(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, undisturbed: Run
) -> None:
    changes, expected = FOREIGN[name]
    folder = stopped(tmp_path, 7, *THREE_EPOCHS, "checkpoint.every_n_steps=1")
    rewrite(folder / "checkpoints" / "last.ckpt", **changes)
    run = train(tmp_path, *THREE_EPOCHS, "checkpoint.every_n_steps=1")
    assert run.record["timings"]["attempts"][-1]["from_step"] == 6
    assert f"last.ckpt {expected}" in caplog.text
    assert (run.folder / "metrics.csv").read_bytes() == (
        undisturbed.folder / "metrics.csv"
    ).read_bytes()


def test_a_checkpoint_that_is_a_folder_is_left_alone(tmp_path: Path) -> None:
    folder = stopped(tmp_path, 5, *THREE_EPOCHS)
    path = folder / "checkpoints" / "last.ckpt"
    path.unlink()
    path.mkdir()
    (path / "precious").touch()
    with pytest.raises(InputError, match=r"last.ckpt must be a checkpoint, but is no file"):
        train(tmp_path, *THREE_EPOCHS)
    assert (path / "precious").exists()


def test_a_checkpoint_that_cannot_be_continued_from_is_named(tmp_path: Path) -> None:
    folder = stopped(tmp_path, 5, *THREE_EPOCHS)
    rewrite(folder / "checkpoints" / "last.ckpt", optimizer_states=[{"state": 1}])
    with pytest.raises(RunError, match=r"cannot continue from .*last.ckpt: .*Move it away"):
        train(tmp_path, *THREE_EPOCHS)
    assert (folder / "checkpoints" / "last.ckpt").exists()


def test_going_back_cuts_no_file_that_a_link_leads_to(tmp_path: Path) -> None:
    folder = stopped(tmp_path, 5, *THREE_EPOCHS)
    precious = tmp_path / "precious"
    (events,) = (folder / "tb").glob("events*")
    precious.write_bytes(events.read_bytes() * 2)
    events.unlink()
    events.symlink_to(precious)
    (folder / "tb" / "more").mkdir()
    (folder / "checkpoints" / ".mine").mkdir()
    size = precious.stat().st_size
    assert train(tmp_path, *THREE_EPOCHS).status == "finished"
    assert precious.stat().st_size == size


def test_going_back_cuts_no_folder_that_a_link_leads_to(tmp_path: Path) -> None:
    folder = stopped(tmp_path, 5, *THREE_EPOCHS)
    shutil.move(folder / "tb", tmp_path / "elsewhere")
    (folder / "tb").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "precious").touch()
    with pytest.raises(InputError, match="tb must be a folder, but is a link"):
        train(tmp_path, *THREE_EPOCHS)
    assert (tmp_path / "elsewhere" / "precious").exists()


def test_minutes_between_checkpoints(tmp_path: Path) -> None:
    folder = stopped(tmp_path, 3, *THREE_EPOCHS, "checkpoint.every_n_minutes=1e-6")
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {
        "last.ckpt",
        "previous.ckpt",
    }


def test_a_killed_test_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = (*THREE_EPOCHS, "estimator=gumbel_st")
    whole = train(tmp_path / "whole", *overrides)
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr("stelab.lab.training.run.draw_run", lambda *_: signal.raise_signal(2))
        broken.setattr("stelab.lab.training.interrupts.SIGNALS", ())
        train(tmp_path / "parts", *overrides)
    run = train(tmp_path / "parts", *overrides)
    assert [a["from_step"] for a in run.record["timings"]["attempts"]] == [0, 12]
    assert_same(run, whole)


def test_who_was_taken_for_dead_writes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Run
) -> None:
    losses: list[Callable[[], None]] = []

    @contextmanager
    def locked(folder: Path, *, on_loss: Callable[[], None], **named: Any) -> Iterator[bool]:
        losses.append(on_loss)
        with lock.locked(folder, on_loss=on_loss, **named) as waited:
            yield waited

    with monkeypatch.context() as patched, pytest.raises(LockLost, match="another process"):
        patched.setattr("stelab.lab.training.run.locked", locked)
        at_step(patched, 6, lambda: losses[0]())
        train(tmp_path, *THREE_EPOCHS)
    (folder,) = (tmp_path / "debug").iterdir()
    assert read_run(folder).status == "running"  # as the other process says
    run = train(tmp_path, *THREE_EPOCHS)
    assert [a["from_step"] for a in run.record["timings"]["attempts"]] == [0, 4]
    assert_same(run, undisturbed)


def test_rerun_starts_over_but_continues_itself(tmp_path: Path, undisturbed: Run) -> None:
    train(tmp_path, *THREE_EPOCHS)
    stopped(tmp_path, 5, *THREE_EPOCHS, "rerun=true")
    run = train(tmp_path, *THREE_EPOCHS, "rerun=true")
    assert [a["from_step"] for a in run.record["timings"]["attempts"]] == [0, 5]
    assert_same(run, undisturbed)


LONG = ("data=mnist5k", "model=mlp", "data.batch_size=16", "trainer.max_epochs=3")  # 657 steps
OFTEN = ("checkpoint.every_n_steps=10", "trainer.log_every_n_steps=7", "estimator=bernoulli_st")


def test_killed_at_twenty_random_moments(cli: Cli, start: Start, tmp_path: Path) -> None:
    """Also while a checkpoint is written, and inside the first epoch."""
    command = ("train", *LONG, *OFTEN)
    assert cli(*command, "study=whole").returncode == 0
    (whole,) = (tmp_path / "outputs" / "whole").iterdir()

    study, moment = tmp_path / "outputs" / "parts", random.Random(0)
    for number in range(20):
        kill(
            start(*command, "study=parts"),
            study,
            after=None if number % 4 == 0 else moment.uniform(0, 0.5),
            whole=number == 9,  # so that there is one to continue from, however slow it is
        )
        if number == 0:
            shutil.copytree(study, tmp_path / "first")
    assert cli(*command, "study=parts").returncode == 0

    assert not list(tmp_path.glob("first/*/checkpoints/last.ckpt"))  # it came before any
    (folder,) = study.iterdir()
    attempts = read_run(folder).record["timings"]["attempts"]
    assert any(0 < attempt["from_step"] < 219 for attempt in attempts)
    assert_same(read_run(folder), read_run(whole))


def kill(process: Fork, study: Path, *, after: float | None, whole: bool = False) -> None:
    """Kill it so many seconds after it began to train; None: while it writes a checkpoint.

    With `whole`, a checkpoint is waited for besides.
    """
    begun = time.time()
    wait_until(
        lambda: process.poll() is not None or newest(study, "*/run.json") > begun, every=0.002
    )
    if whole:
        wait_until(lambda: newest(study, "*/checkpoints/last.ckpt") > begun, every=0.002)
    if after is None:
        wait_until(lambda: bool(list(study.glob("*/checkpoints/.*.ckpt.*"))), every=0.002)
    else:
        time.sleep(after)
    assert process.poll() is None, "it ended before it was killed twenty times"
    process.kill()
    process.wait()


def newest(study: Path, pattern: str) -> float:
    return max((path.stat().st_mtime for path in study.glob(pattern)), default=0)
