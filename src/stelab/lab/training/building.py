"""The objects of a run, built from its configuration: network, data, trainer."""

import sys
from collections.abc import Sequence
from typing import Any, get_args

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from stelab.engine.config import build
from stelab.engine.config.identity import checkpoint_file
from stelab.engine.errors import InputError
from stelab.engine.project import project
from stelab.engine.terminal import one_line
from stelab.lab.data import ImageDataModule
from stelab.lab.models.network import ESTIMATORS, Layer
from stelab.lab.tasks import Task
from stelab.lab.training.checkpoint_file import SealedCheckpointIO
from stelab.lab.training.module import TaskModule
from stelab.lab.training.progress import RunBar
from stelab.lab.training.restore import take_weights
from stelab.lab.training.static_step import require_possible
from stelab.lab.training.steps import EpochLoop


def build_module(cfg: Any, images: Tensor | None = None) -> TaskModule:
    """Build the Lightning module of a configuration: model, task, loss, optimizer, schedule.

    The model begins with `images`, those to train on, where they are given.
    """
    model, task = build(cfg.model), build_task(cfg)
    require("model", model, task.network)
    require("model.binarizer", model.binarizer, *get_args(Layer))
    require("model.binarizer.estimator", model.binarizer.estimator, *ESTIMATORS)
    if images is not None:
        model.begin(images)
    plain = {"optimizer": to_plain(cfg.optimizer), "scheduler": to_plain(cfg.scheduler)}
    step = cfg.trainer.get("step", "eager")
    module = TaskModule(model=model, task=task, seed=cfg.seed, step=step, **plain)
    if cfg.trainer.get("channels_last"):
        model.to(memory_format=torch.channels_last)
    if source := cfg.get("from_checkpoint"):
        take_weights(module, checkpoint_file(source))
    return module


def build_task(cfg: Any) -> Task:
    """Build the task of a configuration, with its loss."""
    loss = build(cfg.loss)
    if not callable(loss):
        raise InputError(f"loss must take (output, target), but is {loss!r}")
    # The configuration of an older run has no task.
    task: Task = build(cfg.get("task", project().later_keys["task"]), loss=loss)
    require("task", task, Task)
    return task


def build_data(cfg: DictConfig) -> ImageDataModule:
    """Build the dataset and read its splits, to fail here where they cannot be read."""
    data: ImageDataModule = build(cfg.data)
    require("data", data, ImageDataModule)
    data.prepare_data()
    data.images("train")
    for split in ("val", "test"):
        data.has(split)
    return data


def build_trainer(cfg: DictConfig, *, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
    """Build Lightning's trainer with the configured callbacks and loggers after `callbacks`."""
    options = to_plain(cfg.trainer)
    if batches := int(options.pop("fast_dev_run", 0)):  # Lightning's would log nothing
        options |= {f"limit_{split}_batches": batches for split in ("train", "val", "test")}
        options |= {"max_epochs": 1, "val_check_interval": 1.0, "check_val_every_n_epoch": 1}
    bar = options.pop("enable_progress_bar") and sys.stdout.isatty()
    profiler = options.pop("profiler")
    for key in ("step", "tf32", "channels_last"):  # see `build_module` and `set_arithmetic`
        options.pop(key, None)
    callbacks = [*callbacks, *map(build, cfg.callbacks.values()), *([RunBar()] if bar else [])]
    try:
        trainer = pl.Trainer(
            **options,
            callbacks=callbacks,
            logger=[build(node) for node in cfg.logger.values()],
            profiler=build(profiler) if profiler else None,
            # A job of a cluster is one run, whatever Lightning would make of its environment.
            plugins=[SealedCheckpointIO(), LightningEnvironment()],
            enable_checkpointing=False,
            enable_progress_bar=False,  # RunBar is the only one
            enable_model_summary=False,
            default_root_dir=cfg.paths.run,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"trainer refuses its arguments: {one_line(str(error))}") from error
    if (kind := cfg.trainer.get("step", "eager")) != "eager":
        require_possible(kind, trainer)
    steps = trainer.fit_loop.epoch_loop
    trainer.fit_loop.epoch_loop = EpochLoop(trainer, steps.min_steps, steps.max_steps)
    return trainer


def require(key: str, part: object, *kinds: type) -> None:
    """Raise InputError unless what a key describes is of a class that belongs there."""
    if not isinstance(part, kinds):
        names = " or ".join(f"{kind.__module__}.{kind.__name__}" for kind in kinds)
        raise InputError(f"{key} must be a {names}, but is a {type(part).__name__}")


def to_plain(node: DictConfig) -> Any:
    """Resolve a node to plain containers."""
    return OmegaConf.to_container(node, resolve=True)
