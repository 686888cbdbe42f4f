"""One run: from a configuration to a finished folder."""

import copy
import errno
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import TensorBoardLogger

from stelab.engine.config.identity import pinned
from stelab.engine.config.validate import plain, validate
from stelab.engine.errors import RunError, first_line
from stelab.engine.files import link_atomically
from stelab.engine.studies.lock import locked
from stelab.engine.studies.record import Pruned, Recorder, Run, RunFolder, finished_run, read_run
from stelab.estimators import Estimator
from stelab.lab.data import ImageDataModule
from stelab.lab.tasks.base import binary_layers
from stelab.lab.training.building import build_data, build_module, build_trainer, to_plain
from stelab.lab.training.checkpoint_file import BEST, LAST, PREVIOUS, read_checkpoint, write_sealed
from stelab.lab.training.checkpoints import Checkpoints, floats
from stelab.lab.training.figures import draw_run
from stelab.lab.training.interrupts import Interrupted, Interrupts, LockLost
from stelab.lab.training.isolation import Arithmetic, isolated, seeded_gpu
from stelab.lab.training.module import TaskModule
from stelab.lab.training.progress import ProgressFile
from stelab.lab.training.resume import Start, rewind
from stelab.lab.training.stack import Seat
from stelab.lab.training.static_step import compiling
from stelab.lab.training.threads import set_threads, threads_before, threads_of

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> Run:
    """Check a configuration (see `stelab.compose`), train one network as it says, and test it.

    A run that its folder shows finished is returned from there, unless ``cfg.rerun``. A run that
    was killed, interrupted, pruned or failed continues from its last checkpoint. While another
    process trains the same run, this one waits, and returns what that one made.

    SIGINT and SIGTERM let the step under way end and its state be saved; then they do what they
    would have done at once.

    Returns:
        The finished run. Its folder holds config.yaml, run.json, metrics.csv, tb/, figures/ and,
        as far as ``cfg.checkpoint.keep`` says, checkpoints/{last,best}.ckpt.

    Raises:
        InputError: The configuration is wrong, or something refuses its arguments; nothing was
            started.
        Pruned: A sweeper's pruner stopped it.
        NonFiniteError: A loss or pre-activation was NaN or infinite.
        OtherProcessFailed: It was waited for, and failed.
        LockLost: This process was taken for dead, and another one holds the run's lock now.
        RunError: There is no space left, and what was saved before is whole; or a checkpoint is not
            one to continue from.
    """
    validate(cfg, "train")
    return train_checked(cfg)


def train_checked(cfg: DictConfig, seat: Seat | None = None) -> Run:
    """Do what `train` does with a configuration that was checked already, perhaps in a stack.

    Raises:
        Beside: There is a seat, but the run cannot be stacked with any other.
    """
    folder = RunFolder.of(cfg)
    cfg = copy.deepcopy(cfg)
    cfg.paths.run = str(folder.path)  # computed once
    if cfg.get("from_checkpoint"):
        cfg.from_checkpoint = pinned("from_checkpoint", cfg.from_checkpoint)
    if finished := finished_run(cfg):
        log.info("%s is finished already (rerun=true runs it again)", finished.name)
        return finished
    tf32 = cfg.trainer.get("tf32", False)
    kind = cfg.trainer.get("step", "eager")
    isolation = isolated if seat is None else seat.isolated
    with isolation(cfg.seed, threads=threads_of(cfg), tf32=tf32), compiling(kind):
        data = build_data(cfg)
        module = build_module(cfg, data.images("train"))
        interrupts = Interrupts() if seat is None else Interrupts(seat.signals)
        waiting = None if seat is None else seat.refuse_to_wait
        lock = locked(folder.path, on_loss=interrupts.lose_lock, on_wait=waiting)
        with _full_disk_explained(folder), lock as waited:
            # The process that held the lock may have finished since the first look.
            if finished := _made_by_another(folder) if waited else finished_run(cfg):
                return finished
            with interrupts:
                _train_locked(cfg, module, data, interrupts, seat)
    return read_run(folder.path)


class OtherProcessFailed(RunError):
    """The run failed in another process while this one waited for it."""


def _made_by_another(folder: RunFolder) -> Run | None:
    run = read_run(folder.path) if folder.record.exists() else None
    if run is not None and run.status == "failed":
        raise OtherProcessFailed(f"{run.name} failed in another process: {run.reason}")
    return run if run is not None and run.status == "finished" else None


@contextmanager
def _full_disk_explained(folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunError(
            f"{folder.name}: there is no space left for {folder.path}. What was saved before is "
            "whole: free some space, and the same command continues from there"
        ) from error


def _train_locked(
    cfg: DictConfig,
    module: TaskModule,
    data: ImageDataModule,
    interrupts: Interrupts,
    seat: Seat | None,
) -> None:
    """Train in a folder whose lock is held; record how it went."""
    folder = RunFolder.of(cfg)
    executor = "alone"
    if seat is not None:
        settings = {**to_plain(cfg.data), "seed": None}
        executor = seat.join(folder.name, module, data, settings)
    # A killed one goes on even with rerun=true.
    if cfg.rerun and folder.status() in ("finished", "failed", "pruned"):
        folder.empty()
    start = rewind(folder, module)
    if start.checkpoint is not None:
        set_threads(threads_before(folder) or torch.get_num_threads())  # to end bit for bit
        log.info("%s continues from step %d", folder.name, start.step)
    threads = torch.get_num_threads()
    task = {"metric": module.task.metric, "better": module.task.better}
    recorder = Recorder(
        folder.path, cfg, from_step=start.step, task=task, threads=threads, executor=executor
    )
    try:
        outcome = _fit_and_test(cfg, module, data, Checkpoints(cfg, interrupts), start)
    except LockLost:
        raise  # the folder is another process's now
    except BaseException as error:
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        status = "interrupted" if stopped else "pruned" if isinstance(error, Pruned) else "failed"
        recorder.stop(error, status=status)
        raise
    (folder.checkpoints / PREVIOUS).unlink(missing_ok=True)
    recorder.finish(**outcome)
    retain(cfg.checkpoint.keep, folder.checkpoints)


def _fit_and_test(
    cfg: DictConfig,
    module: TaskModule,
    data: ImageDataModule,
    checkpoints: Checkpoints,
    start: Start,
) -> dict[str, Any]:
    """Train and test; return the arguments of `Recorder.finish`."""
    folder, interrupts = checkpoints.folder, checkpoints.interrupts
    # Before all others: its checkpoint is of the state that they have not touched yet.
    callbacks: list[pl.Callback] = [checkpoints, ProgressFile(folder)]
    callbacks.append(Arithmetic(tf32=cfg.trainer.get("tf32", False)))
    if cfg.trial is not None:
        from stelab.lab.training.pruning import TrialReport

        callbacks.append(TrialReport(**cfg.trial, checkpoints=checkpoints))
    trainer = build_trainer(cfg, callbacks=callbacks)
    for logger in trainer.loggers:
        if not isinstance(logger, TensorBoardLogger):  # whose view of a study has them
            logger.log_hyperparams(plain(cfg))
    # Log train/loss_step at least once an epoch; Lightning would warn that it is not.
    batches = data.batches_per_epoch(trainer.limit_train_batches)
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    trainer.log_every_n_steps = max(1, min(interval, batches))  # type: ignore[attr-defined]
    if not data.has("val"):
        trainer.limit_val_batches = 0
    # Lightning would do it after it has loaded a checkpoint, which then loses digits.
    trainer.precision_plugin.convert_module(module)
    # Several processes seed their own.
    device = trainer.strategy.root_device if trainer.world_size == 1 else torch.device("cpu")
    try:
        with seeded_gpu(device, cfg.seed):
            trainer.fit(module, datamodule=data, ckpt_path=start.checkpoint, weights_only=True)
            interrupts.check()
            # What was measured before a continued run's checkpoint, and perhaps not after it.
            metrics = start.metrics | floats(trainer.callback_metrics)
            trainer.test(module, datamodule=data, verbose=False)
    except Exception as error:
        interrupts.check()  # what trains in other processes ends with another error
        if start.checkpoint is not None and not checkpoints.begun:
            raise RunError(
                f"{folder.name} cannot continue from {start.checkpoint}: {first_line(error)}. "
                "Move it away to go on from the checkpoint before, or from the start"
            ) from error
        raise
    draw_run(folder, module, data)
    with folder.metrics.open(encoding="utf-8") as file:
        epochs = sum(1 for _ in file) - 1  # with trainer=ddp, this process has counted none
    estimators = [layer.estimator for layer in binary_layers(module.model)]
    clamps = any(type(e).clipped is not Estimator.clipped for e in estimators)
    return {
        "metrics": metrics | floats(trainer.callback_metrics),
        "images": asdict(data.format),
        "epochs": epochs,
        "arithmetic": _arithmetic(trainer.strategy.root_device),
        # The metric that is 0 while a clamping estimator has no effect.
        "effect": "estimator/clip_fraction" if clamps else None,
    }


def retain(keep: Literal["all", "weights", "none"], checkpoints: Path) -> None:
    """Remove all checkpoints of a finished run, or what is not ``"weights"`` from each."""
    if keep == "none":
        shutil.rmtree(checkpoints)
    elif keep == "weights":
        best, last = checkpoints / BEST, checkpoints / LAST
        same = best.exists() and best.samefile(last)
        for path in (last,) if same or not best.exists() else (last, best):
            content = read_checkpoint(path)
            kept = {key: content[key] for key in TaskModule.WEIGHTS if key in content}
            write_sealed(kept, path)
        if same:
            link_atomically(last, best)


def _arithmetic(device: torch.device) -> dict[str, Any]:
    """Return what computed a run and how precisely, as two runs may differ by that alone."""

    def read(switch: Callable[[], Any]) -> Any:
        try:
            return switch()
        except RuntimeError:  # somebody set it by torch's newer names
            return f"set by fp32_precision={torch.backends.cuda.matmul.fp32_precision}"

    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else device.type,
        "float32_matmul_precision": read(torch.get_float32_matmul_precision),
        "matmul_allow_tf32": read(lambda: torch.backends.cuda.matmul.allow_tf32),
        "cudnn_allow_tf32": read(lambda: torch.backends.cudnn.allow_tf32),
    }
