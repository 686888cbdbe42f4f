"""All jobs of a command, checked before the first one starts: do their parts fit each other?"""

import copy
import json
import linecache
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from torch import Tensor, nn

from stelab.engine.config import build
from stelab.engine.config.composition import overrides_of
from stelab.engine.config.input_errors import Mistakes
from stelab.engine.errors import InputError
from stelab.engine.terminal import one_line
from stelab.estimators import MultiEvaluation
from stelab.lab.data.datamodule import Batch
from stelab.lab.training.building import (
    build_data,
    build_module,
    build_task,
    build_trainer,
    require,
    to_plain,
)
from stelab.lab.training.isolation import isolated
from stelab.lab.training.module import TaskModule
from stelab.lab.training.schedules import build_schedule
from stelab.lab.training.static_step import compiling, require_static
from stelab.lab.training.threads import threads_of


def check(jobs: Sequence[DictConfig]) -> None:
    """Build all that `train` would build, load every dataset, pass a batch through every network.

    Networks are on the meta device, which takes no memory. Jobs that differ only in what cannot
    change the objects (seed, study) are checked once. One InputError names all that is wrong.
    """
    mistakes = Mistakes(len(jobs))
    results: dict[str, Any] = {}  # what a check returned or raised

    def once(key: Any, action: Callable[[DictConfig], Any]) -> Any:
        key = json.dumps(key, sort_keys=True)
        if key not in results:
            try:
                results[key] = action(cfg)
            except InputError as error:
                results[key] = error
        if isinstance(results[key], InputError):
            raise results[key]
        return results[key]

    for cfg in jobs:
        tree = OmegaConf.to_container(cfg, resolve=False)
        assert isinstance(tree, dict)
        with mistakes.of(overrides_of(cfg)):
            once({**tree, "seed": 0, "study": "", "paths": None, "names": None}, _check_objects)
            data = {**to_plain(cfg.data), "seed": 0}
            batch = once(data, lambda job: build_data(job).example())
            shapes = {name: [*part.shape, str(part.dtype)] for name, part in batch.items()}
            task = [to_plain(cfg[group]) for group in ("task", "loss") if group in cfg]
            once([*task, data], partial(_check_batch, batch=batch))
            parts = [*task, to_plain(cfg.model), shapes, cfg.trainer.precision]
            once(parts, partial(_check_shapes, batch=batch))
            if (kind := cfg.trainer.get("step", "eager")) != "eager":
                once([kind, *parts], partial(_check_step, batch=batch))
    mistakes.raise_any()


def _check_objects(cfg: DictConfig) -> None:
    if cfg.dry_run:  # MLflow makes its file as soon as its logger is built
        cfg = copy.deepcopy(cfg)
        for logger in cfg.logger.values():
            if str(logger.get("tracking_uri")).startswith("sqlite:"):
                logger.tracking_uri = "sqlite://"  # in memory
    with isolated(cfg.seed, threads=threads_of(cfg)):
        try:
            with torch.device("meta"):
                module = build_module(cfg)
        except InputError:  # perhaps of a constructor that needs numbers
            module = build_module(cfg)
        trained = [p for p in module.parameters() if p.requires_grad]
        # One number for each tensor, with its dimensions: some optimizers take matrices alone.
        parameters = [torch.nn.Parameter(torch.zeros((1,) * p.dim())) for p in trained]
        optimizer = build(module.optimizer_config, params=parameters)
        require("optimizer", optimizer, torch.optim.Optimizer)
        plain = module.scheduler_config
        schedule = build_schedule(plain, optimizer=optimizer, count=lambda interval: 1000)
        require("scheduler", schedule["scheduler"], torch.optim.lr_scheduler.LRScheduler)
        trainer = build_trainer(cfg)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        require("each of callbacks", callback, pl.Callback)
    for node, logger in zip(cfg.logger.values(), trainer.loggers, strict=True):
        require("each of logger", logger, Logger)
        if isinstance(logger, WandbLogger):
            _require_login(node)
    # Lightning would start this command line once more for each process: a whole sweep.
    if isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
        raise InputError(
            f"trainer.devices asks for {trainer.num_devices} processes, and trainer.strategy must "
            "say how they start: use trainer=ddp (strategy=ddp_spawn), or trainer.devices=1"
        )
    clip = trainer.gradient_clip_val
    try:
        trainer.precision_plugin.clip_gradients(optimizer, clip or 0.0)  # as every step will
    except RuntimeError as error:
        raise InputError(
            f"trainer.gradient_clip_val={clip} with trainer.precision={trainer.precision} needs "
            f"optimizer.fused=false (Lightning: {one_line(str(error))})"
        ) from error


def _require_login(node: DictConfig) -> None:
    """Refuse a logger of Weights & Biases whose run could not begin; ask no server."""
    import wandb

    mode = node.get("mode") or wandb.setup().settings.mode
    if node.get("offline") or mode not in ("online", "shared"):
        return
    if not wandb.login(prompt=False, verify=False):
        raise InputError(
            "logger=wandb needs an account, but nobody is logged in: run wandb login, set "
            "WANDB_API_KEY, or take logger.wandb.offline=true"
        )


def _check_batch(cfg: DictConfig, *, batch: Batch) -> None:
    """Show the task a batch, with its numbers."""
    with isolated(cfg.seed, threads=threads_of(cfg)):
        try:
            build_task(cfg).require_batch(batch)
        except ValueError as error:
            raise InputError(str(error)) from error


def _check_shapes(cfg: DictConfig, *, batch: Batch) -> None:
    """Pass a batch on the meta device; a failure there must be one with numbers too."""
    with isolated(cfg.seed, threads=threads_of(cfg)):
        try:
            with torch.device("meta"):
                on_meta = {name: part.to("meta") for name, part in batch.items()}
                return require_fit(build_module(cfg), on_meta)
        except InputError:
            pass
        module, converted, plugin = _as_trained(cfg, batch)
        require_fit(module, converted, context=plugin.forward_context())


def _check_step(cfg: DictConfig, *, batch: Batch) -> None:
    """Let the compiler follow a step, as training will take it."""
    with isolated(cfg.seed, threads=threads_of(cfg)), compiling(cfg.trainer.step):
        module, converted, plugin = _as_trained(cfg, batch)
        with plugin.train_step_context():
            require_static(cfg.trainer.step, module.train(), converted)


def _as_trained(cfg: DictConfig, batch: Batch) -> tuple[TaskModule, Batch, Any]:
    """Build the network, and bring it and a batch to the device and precision of training."""
    trainer = build_trainer(cfg)
    plugin, device = trainer.precision_plugin, trainer.strategy.root_device
    module = build_module(cfg).to(device)
    plugin.convert_module(module)
    converted = {name: plugin.convert_input(part.to(device)) for name, part in batch.items()}
    return module, converted, plugin


def require_fit(
    module: TaskModule, batch: Batch, context: AbstractContextManager[object] | None = None
) -> None:
    """Pass a batch through the network and its loss, as in training."""
    model, task, images = module.model, module.task, batch["images"]
    shape = tuple(images.shape)

    def attempt(step: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return step(*arguments)
        except _Enough:
            raise
        except Exception as error:
            if _is_decision(error):
                raise _LeftToTraining from error
            reason = f"{type(error).__name__}: {one_line(str(error))}"
            layer = _layer(error, module)
            raise InputError(f"{layer} fails on images of shape {shape}: {reason}") from error

    # What the pass warns of, and compiles, is training's to warn of and to compile.
    eager = torch.compiler.set_stance("force_eager")
    silent, undecided = warnings.catch_warnings(), suppress(_LeftToTraining)
    with undecided, silent, torch.no_grad(), eager, context or nullcontext():
        warnings.simplefilter("ignore")
        x = attempt(model.encoder, images)
        code = attempt(model.binarizer, x)
        output = attempt(model.decode, code)
        try:
            task.require_fit(model, batch, code, output)
        except ValueError as error:
            raise InputError(str(error)) from error
        losses = attempt(task.losses, output, batch)
        if losses.shape != images.shape[:1]:
            reducing = hasattr(task.loss, "reduction")
            raise InputError(
                f"loss must return one value an example, shape {shape[:1]}, or one an element, but "
                f"returns {tuple(losses.shape)}"
                f"{'; set loss.reduction=none' if reducing else ''}"
            )
        attempt(task.penalty, model, x)
        if isinstance(model.binarizer.estimator, MultiEvaluation):  # perhaps made for other codes
            f = _first_times(partial(model.losses, outcome=partial(task.losses, batch=batch)))
            with suppress(_Enough), torch.enable_grad():
                attempt(model.binarizer.loss, x, f)


class _Enough(Exception):
    """The loss was evaluated often enough to see that it can be."""


def _first_times(losses: Callable[..., Tensor], count: int = 4) -> Callable[[Tensor], Tensor]:
    """Return a loss of codes that ends an estimate which would go on for a thousand evaluations."""
    left = iter(range(count))

    def f(code: Tensor) -> Tensor:
        if next(left, None) is None:
            raise _Enough
        return losses(code, generator=None)

    return f


class _LeftToTraining(Exception):
    """The pass ends for a reason that has nothing to do with shapes."""


def _is_decision(error: Exception) -> bool:
    """Whether code gave up by its own decision, as a job may, instead of refusing an argument.

    An operation that is given a wrong shape does not ``raise`` in Python, or a library does, or it
    raises a ValueError.
    """
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    if package in ("torch", "torchvision", "stelab") or isinstance(error, ValueError | TypeError):
        return False
    return "raise" in linecache.getline(frame.f_code.co_filename, line).split()


def _layer(error: Exception, module: TaskModule) -> str:
    """Name the innermost layer whose code was running when an error was raised."""
    names = {id(layer): name for name, layer in module.named_modules()}
    running = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    layers = [names.get(id(owner)) for owner in running if isinstance(owner, nn.Module)]
    return next(filter(None, reversed(layers)), "model")
