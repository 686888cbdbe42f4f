"""One run: from a configuration to a finished folder."""

from __future__ import annotations

import copy
import errno
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from stelab.binarizer import Binarizer
from stelab.engine.config import build
from stelab.engine.config.composition import overrides_of
from stelab.engine.config.identity import checkpoint_file, pinned
from stelab.engine.config.input_errors import Mistakes
from stelab.engine.config.validate import plain, validate
from stelab.engine.errors import InputError, RunError, first_line
from stelab.engine.studies.record import Pruned, Recorder, Run, finished_run
from stelab.engine.studies.run_folder import RunFolder
from stelab.engine.terminal import one_line
from stelab.estimators import Estimator
from stelab.lab.data import ImageDataModule
from stelab.lab.models import Autoencoder
from stelab.lab.training.arithmetic import arithmetic
from stelab.lab.training.checkpoint_file import PREVIOUS, SealedCheckpointIO
from stelab.lab.training.checkpoints import Checkpoints, floats
from stelab.lab.training.figures import draw_run
from stelab.lab.training.interrupts import Interrupted, Interrupts, LockLost
from stelab.lab.training.isolation import isolated
from stelab.lab.training.module import AutoencoderModule
from stelab.lab.training.monitors import effect_of
from stelab.lab.training.progress import ProgressFile, RunBar
from stelab.lab.training.resume import Start, rewind
from stelab.lab.training.retention import retain
from stelab.lab.training.schedules import build_schedule
from stelab.lab.training.shapes import require_fit
from stelab.lab.training.warm_start import take_weights

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> Run:
    """Check a configuration, and train one network as it says: see `train_checked`.

    Raises:
        InputError: The configuration is wrong; nothing was started.
    """
    validate(cfg, "train")
    return train_checked(cfg)


def train_checked(cfg: DictConfig) -> Run:
    """Train one network as `cfg` says (see `stelab.compose`) and test it.

    A run that its folder shows finished is returned from there, unless ``cfg.rerun``. A run that
    was killed, interrupted, pruned or failed continues from its last checkpoint. While another
    process trains the same run, this one waits, and returns what that one made.

    SIGINT and SIGTERM let the step under way end and its state be saved; then they do what they
    would have done at once.

    Returns:
        The finished run. Its folder holds config.yaml, run.json, metrics.csv, tb/, figures/ and,
        as far as ``cfg.checkpoint.keep`` says, checkpoints/{last,best}.ckpt.

    Raises:
        InputError: Something refuses its arguments; nothing was started.
        Pruned: A sweeper's pruner stopped it.
        NonFiniteError: A loss or pre-activation was NaN or infinite.
        OtherProcessFailed: It was waited for, and failed.
        LockLost: This process was taken for dead, and another one holds the run's lock now.
        RunError: There is no space left, and what was saved before is whole; or a checkpoint is not
            one to continue from.
    """
    folder = RunFolder.of(cfg)
    cfg = copy.deepcopy(cfg)
    cfg.paths.run = str(folder.path)  # computed once
    if cfg.get("from_checkpoint"):
        cfg.from_checkpoint = pinned("from_checkpoint", cfg.from_checkpoint)
    if finished := finished_run(cfg):
        log.info("%s is finished already (rerun=true runs it again)", finished.name)
        return finished
    with isolated(cfg.seed, threads=cfg.threads):
        data = _load(cfg)
        module = build_module(cfg)
        interrupts = Interrupts()
        with _full_disk_told(folder), folder.locked(on_loss=interrupts.lose_lock) as waited:
            # The process that held the lock may have finished since the first look.
            if finished := _made_by_another(folder) if waited else finished_run(cfg):
                return finished
            with interrupts:
                _train(cfg, module, data, interrupts)
    return folder.read()


class OtherProcessFailed(RunError):
    """The run failed in another process while this one waited for it."""


def _made_by_another(folder: RunFolder) -> Run | None:
    run = folder.read() if folder.record.exists() else None
    if run is not None and run.status == "failed":
        raise OtherProcessFailed(f"{run.name} failed in another process: {run.reason}")
    return run if run is not None and run.status == "finished" else None


@contextmanager
def _full_disk_told(folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunError(
            f"{folder.name}: there is no space left for {folder.path}. What was saved before is "
            "whole: free some space, and the same command continues from there"
        ) from error


def _train(
    cfg: DictConfig, module: AutoencoderModule, data: ImageDataModule, interrupts: Interrupts
) -> None:
    """Train in a folder whose lock is held; record how it went."""
    folder = RunFolder.of(cfg)
    # A killed one goes on even with rerun=true.
    if cfg.rerun and folder.status() in ("finished", "failed", "pruned"):
        folder.empty()
    start = rewind(folder, module)
    if start.checkpoint is not None:
        log.info("%s continues from step %d", folder.name, start.step)
    recorder = Recorder(folder.path, cfg, from_step=start.step)
    try:
        outcome = _fit_and_test(cfg, module, data, interrupts, start)
    except LockLost:
        raise  # the folder is another process's now
    except (Interrupted, KeyboardInterrupt) as error:
        recorder.stop(error, status="interrupted")
        raise
    except Pruned as error:
        recorder.stop(error, status="pruned")
        raise
    except BaseException as error:
        recorder.stop(error, status="failed")
        raise
    (folder.checkpoints / PREVIOUS).unlink(missing_ok=True)
    recorder.finish(**outcome)
    retain(cfg.checkpoint.keep, folder.checkpoints)


def build_module(cfg: Any) -> AutoencoderModule:
    """Build the Lightning module of a configuration: model, loss, optimizer, schedule.

    Raises:
        InputError: Something refuses its arguments, or is no network or loss, or
            ``cfg.from_checkpoint`` does not fit.
    """
    model, loss = build(cfg.model), build(cfg.loss)
    _require("model", model, Autoencoder)
    _require("model.binarizer", model.binarizer, Binarizer)
    _require("model.binarizer.estimator", model.binarizer.estimator, Estimator)
    if not callable(loss):
        raise InputError(f"loss must take (reconstruction, images), but is {loss!r}")
    module = AutoencoderModule(
        model=model,
        loss=loss,
        optimizer=_plain(cfg.optimizer),
        scheduler=_plain(cfg.scheduler),
        seed=cfg.seed,
    )
    if source := cfg.get("from_checkpoint"):
        take_weights(module, checkpoint_file(source))
    return module


def _require(key: str, part: object, kind: type) -> None:
    if not isinstance(part, kind):
        raise InputError(
            f"{key} must be a {kind.__module__}.{kind.__name__}, but is a {type(part).__name__}"
        )


def check(jobs: Sequence[DictConfig]) -> None:
    """Build everything that `train` would, load every dataset, let a batch pass every network.

    Networks are on the meta device, which takes no memory. Jobs that differ by what cannot change
    the objects (seed, study) are looked at once.

    Args:
        jobs: Configurations.

    Raises:
        InputError: Things refuse their arguments, or do not fit each other, or datasets cannot be
            had: names all of it.
    """
    mistakes = Mistakes(len(jobs))
    known: dict[str, Any] = {}  # what an action returned, or raised

    def once(what: Any, action: Callable[[DictConfig], Any]) -> Any:
        key = json.dumps(what, sort_keys=True)
        if key not in known:
            try:
                known[key] = action(cfg)
            except InputError as error:
                known[key] = error
        if isinstance(known[key], InputError):
            raise known[key]
        return known[key]

    for cfg in jobs:
        tree = OmegaConf.to_container(cfg, resolve=False)
        assert isinstance(tree, dict)
        with mistakes.of(overrides_of(cfg)):
            once({**tree, "seed": 0, "study": "", "paths": None, "names": None}, _check_objects)
            shape = once({**_plain(cfg.data), "seed": 0}, _image_shape)
            network = [_plain(cfg.model), _plain(cfg.loss), shape, cfg.trainer.precision]
            once(network, partial(_check_shapes, shape=shape))
    mistakes.raise_any()


def _check_objects(cfg: DictConfig) -> None:
    with isolated(cfg.seed, threads=cfg.threads):
        try:
            with torch.device("meta"):
                module = build_module(cfg)
        except InputError:  # perhaps of a constructor that needs numbers
            module = build_module(cfg)
        trained = [p for p in module.parameters() if p.requires_grad]
        # One number for each tensor, with its dimensions: some optimizers take matrices alone.
        parameters = [torch.nn.Parameter(torch.zeros((1,) * p.dim())) for p in trained]
        optimizer = build(module.optimizer_config, params=parameters)
        _require("optimizer", optimizer, torch.optim.Optimizer)
        schedule = build_schedule(
            module.scheduler_config, optimizer=optimizer, count=lambda interval: 1000
        )
        _require("scheduler", schedule["scheduler"], torch.optim.lr_scheduler.LRScheduler)
        trainer = _trainer(cfg)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        _require("each of callbacks", callback, pl.Callback)
    for logger in trainer.loggers:
        _require("each of logger", logger, Logger)
    _check_processes(trainer)
    _check_clipping(trainer, optimizer)


def _image_shape(cfg: DictConfig) -> list[int]:
    return list(_load(cfg).images("train").shape[1:])


def _check_shapes(cfg: DictConfig, *, shape: Sequence[int]) -> None:
    """Let a batch pass on the meta device; what fails there has to fail with numbers too."""
    with isolated(cfg.seed, threads=cfg.threads):
        try:
            with torch.device("meta"):
                return require_fit(build_module(cfg), torch.empty(2, *shape))
        except InputError:
            pass
        trainer = _trainer(cfg)
        plugin, device = trainer.precision_plugin, trainer.strategy.root_device
        module = build_module(cfg).to(device)
        plugin.convert_module(module)
        images = plugin.convert_input(torch.rand(2, *shape, device=device) * 2 - 1)
        require_fit(module, images, context=plugin.forward_context())


def _check_processes(trainer: pl.Trainer) -> None:
    """Refuse processes that Lightning would make of this command line, so of a whole sweep."""
    if isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
        raise InputError(
            f"trainer.devices asks for {trainer.num_devices} processes, and trainer.strategy must "
            "say how they start: use trainer=ddp (strategy=ddp_spawn), or trainer.devices=1"
        )


def _check_clipping(trainer: pl.Trainer, optimizer: torch.optim.Optimizer) -> None:
    """Clip no gradients, as every step will clip its own."""
    clip = trainer.gradient_clip_val
    try:
        trainer.precision_plugin.clip_gradients(optimizer, clip or 0.0)
    except RuntimeError as error:
        raise InputError(
            f"trainer.gradient_clip_val={clip} with trainer.precision={trainer.precision} needs "
            f"optimizer.fused=false (Lightning: {one_line(str(error))})"
        ) from error


def _load(cfg: DictConfig) -> ImageDataModule:
    data: ImageDataModule = build(cfg.data)
    _require("data", data, ImageDataModule)
    data.prepare_data()
    data.images("train")  # what cannot be read or split is told now
    return data


def _trainer(cfg: DictConfig, *, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
    options = _plain(cfg.trainer)
    if batches := int(options.pop("fast_dev_run", 0)):  # Lightning's would log nothing
        options |= {f"limit_{split}_batches": batches for split in ("train", "val", "test")}
        options |= {"max_epochs": 1, "val_check_interval": 1.0, "check_val_every_n_epoch": 1}
    bar = options.pop("enable_progress_bar") and sys.stdout.isatty()
    profiler = options.pop("profiler")
    callbacks = [*callbacks, *(build(node) for node in cfg.callbacks.values())]
    if bar:
        callbacks.append(RunBar())
    try:
        return pl.Trainer(
            **options,
            callbacks=callbacks,
            logger=[build(node) for node in cfg.logger.values()],
            profiler=build(profiler) if profiler else None,
            # A job of a cluster is one run, whatever Lightning would make of its environment.
            plugins=[SealedCheckpointIO(), LightningEnvironment()],
            enable_checkpointing=False,
            enable_progress_bar=bar,
            enable_model_summary=False,
            default_root_dir=cfg.paths.run,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"trainer refuses its arguments: {one_line(str(error))}") from error


def _fit_and_test(
    cfg: DictConfig,
    module: AutoencoderModule,
    data: ImageDataModule,
    interrupts: Interrupts,
    start: Start,
) -> dict[str, Any]:
    """Train and test; return what `Recorder.finish` takes."""
    folder = RunFolder.of(cfg)
    checkpoints = Checkpoints(
        folder,
        monitor=cfg.monitor,
        better=cfg.get("better") or "lower",
        every_n_steps=cfg.checkpoint.every_n_steps,
        every_n_minutes=cfg.checkpoint.every_n_minutes,
        interrupts=interrupts,
    )
    # Before all others: its checkpoint is of the state that they have not touched yet.
    callbacks: list[pl.Callback] = [checkpoints, ProgressFile(folder)]
    if cfg.trial is not None:
        from stelab.lab.training.pruning import TrialReport

        callbacks.append(TrialReport(**cfg.trial, checkpoints=checkpoints))
    trainer = _trainer(cfg, callbacks=callbacks)
    for logger in trainer.loggers:
        if not isinstance(logger, TensorBoardLogger):  # whose view of a study has them
            logger.log_hyperparams(plain(cfg))
    _log_every_epoch(trainer, data.batches_per_epoch(trainer.limit_train_batches))
    if not data.has("val"):
        trainer.limit_val_batches = 0
    # Lightning would do it after it has loaded a checkpoint, which then loses digits.
    trainer.precision_plugin.convert_module(module)
    try:
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
    return {
        "metrics": metrics | floats(trainer.callback_metrics),
        "epochs": _epochs(folder.metrics),
        "arithmetic": arithmetic(trainer.strategy.root_device),
        "effect": effect_of(module),
    }


def _log_every_epoch(trainer: pl.Trainer, batches: int) -> None:
    """Log train/loss_step at least once an epoch; Lightning would warn that it is not."""
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    trainer.log_every_n_steps = max(1, min(interval, batches))  # type: ignore[attr-defined]


def _epochs(table: Path) -> int:
    """Count rows; the trainer of this process has counted none where others train (trainer=ddp)."""
    with table.open(encoding="utf-8") as file:
        return sum(1 for _ in file) - 1


def _plain(node: DictConfig) -> Any:
    return OmegaConf.to_container(node, resolve=True)
