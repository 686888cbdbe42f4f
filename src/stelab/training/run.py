"""One run: from a configuration to a finished folder."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.utilities.exceptions import SIGTERMException

from stelab.config import build
from stelab.config.mistakes import Mistakes
from stelab.config.plan import Plan
from stelab.config.validate import validate
from stelab.data import ImageDataModule
from stelab.errors import InputError
from stelab.report.figures import draw_run
from stelab.studies.record import Recorder, Run, read_run
from stelab.training.isolation import isolated
from stelab.training.module import AutoencoderModule

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> Run:
    """Train one network as `cfg` says (see `stelab.compose`) and test it.

    A run that its folder shows finished is returned from there, unless ``cfg.rerun``; what an
    unfinished one left is deleted.

    Returns:
        The finished run. Its folder holds config.yaml, run.json, metrics.csv, tb/,
        checkpoints/{last,best}.ckpt and figures/.

    Raises:
        InputError: The configuration is wrong; nothing was started.
    """
    validate(cfg, "train")
    folder = Path(cfg.paths.run)
    if not cfg.rerun and (finished := _finished(folder)):
        log.info("%s is finished already (rerun=true runs it again)", finished.name)
        return finished
    with isolated(cfg.seed):
        data = _load(cfg)
        trainer = _trainer(cfg, steps_per_epoch=data.steps_per_epoch())
        module = build_module(cfg)
        _empty(folder)
        recorder = Recorder(folder, cfg)
        try:
            metrics = _fit_and_test(trainer, module, data, folder)
        except BaseException as error:
            recorder.fail(error)
            raise
        recorder.finish(metrics)
    return read_run(folder)


def build_module(cfg: Any) -> AutoencoderModule:
    """Build the Lightning module of a configuration: model, loss, optimizer, schedule."""
    model, loss = build(cfg.model), build(cfg.loss)
    return AutoencoderModule(
        model=model,
        loss=loss,
        optimizer=_plain(cfg.optimizer),
        scheduler=_plain(cfg.scheduler),
        seed=cfg.seed,
    )


def check(plan: Plan) -> None:
    """Build everything that `train` would, networks on the meta device, and load every dataset.

    Raises:
        InputError: Things refuse their arguments, or datasets cannot be had: names all of it.
    """
    mistakes, loaded = Mistakes(len(plan.jobs)), []
    for cfg, overrides in zip(plan.jobs, plan.overrides, strict=True):
        with mistakes.of(overrides):
            _check_objects(cfg)
            data = {**_plain(cfg.data), "seed": 0}
            if data not in loaded:
                _load(cfg)
                loaded.append(data)
    mistakes.raise_any()


def _check_objects(cfg: DictConfig) -> None:
    with isolated(cfg.seed):
        with torch.device("meta"):
            module = build_module(cfg)
        parameter = torch.nn.Parameter(torch.zeros(()))
        optimizer = build(module.optimizer_config, params=[parameter])
        build(module.scheduler_config, optimizer=optimizer)
        _trainer(cfg)


def _finished(folder: Path) -> Run | None:
    try:
        run = read_run(folder)
    except InputError:
        return None
    return run if run.status == "finished" else None


def _empty(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _load(cfg: DictConfig) -> ImageDataModule:
    data: ImageDataModule = build(cfg.data)
    data.prepare_data()
    data.setup()
    return data


def _trainer(cfg: DictConfig, *, steps_per_epoch: int | None = None) -> pl.Trainer:
    options = _plain(cfg.trainer)
    # At least one train/loss_step an epoch; Lightning would warn that there are none.
    interval = options["log_every_n_steps"]
    options["log_every_n_steps"] = min(interval, steps_per_epoch or interval)
    bar = options.pop("enable_progress_bar") and sys.stdout.isatty()
    profiler = options.pop("profiler")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    callbacks = [build(node) for node in cfg.callbacks.values()]
    if bar:
        callbacks.append(TQDMProgressBar(refresh_rate=20))
    try:
        return pl.Trainer(
            **options,
            callbacks=callbacks,
            logger=[build(node) for node in cfg.logger.values()],
            profiler=build(profiler) if profiler else None,
            enable_progress_bar=bar,
            enable_model_summary=False,
            default_root_dir=cfg.paths.run,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"trainer refuses its arguments: {error}") from error


def _fit_and_test(
    trainer: pl.Trainer,
    module: AutoencoderModule,
    data: ImageDataModule,
    folder: Path,
) -> dict[str, float]:
    if not data.has("val"):
        trainer.limit_val_batches = 0
    try:
        trainer.fit(module, datamodule=data)
        metrics = _floats(trainer.callback_metrics)
        trainer.test(module, datamodule=data, verbose=False)
        metrics |= _floats(trainer.callback_metrics)
    except SIGTERMException:
        raise SystemExit(128 + signal.SIGTERM) from None
    except SystemExit:
        # Lightning turns a keyboard interrupt into exit(1).
        raise KeyboardInterrupt from None
    draw_run(folder, module, data)
    return metrics


def _floats(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if not name.endswith("loss_step")}


def _plain(node: DictConfig) -> Any:
    return OmegaConf.to_container(node, resolve=True)
