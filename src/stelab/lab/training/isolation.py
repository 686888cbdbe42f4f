"""What a job may not leave behind for the next one in the same process."""

import gc
import logging
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities.seed import isolate_rng

from stelab.engine.errors import InputError
from stelab.lab.training.memory import kept_memory
from stelab.lab.training.threads import set_threads

_deterministic: Any = torch.utils.deterministic  # its switch is a property of the module

_HARMLESS: tuple[tuple[str, type[Warning]], ...] = (
    # pytorch-lightning 2.6 calls, once a run, what torch 2.14 deprecates.
    (".*LeafSpec", FutureWarning),
    # A run is one process: `srun` is for those that a cluster starts side by side.
    (".*`srun` command is available", Warning),
    # mlflow 3.17 calls what sqlalchemy 2.1 deprecates.
    ("The ``noload`` loader strategy", Warning),
    # Of trainer.overfit_batches: `ImageDataModule` does it.
    ("You requested to overfit but enabled", Warning),
)


@contextmanager
def isolated(seed: int, *, threads: int, tf32: bool = False) -> Iterator[None]:
    """Seed the CPU's random generators, set its threads and how float32 is computed.

    Afterwards restore all global state. A GPU's generator is seeded by `seeded_gpu`.
    """
    lightning = logging.getLogger("pytorch_lightning")
    with ExitStack() as after:  # in reverse order
        if not _host_freezes():  # which keeps its own objects so
            gc.freeze()  # so that the collection at the end looks at this job's objects only
            after.callback(gc.unfreeze)
        after.enter_context(kept_memory())
        after.callback(_free_memory)
        after.callback(lightning.setLevel, lightning.level)
        after.callback(torch.set_num_threads, torch.get_num_threads())
        after.callback(torch.autograd.set_detect_anomaly, torch.is_anomaly_enabled())
        after.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
        _restore_arithmetic(after)
        after.callback(
            torch.use_deterministic_algorithms,
            torch.are_deterministic_algorithms_enabled(),
            warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        after.callback(torch.set_default_dtype, torch.get_default_dtype())
        after.callback(os.environ.update, dict(os.environ))
        after.callback(os.environ.clear)
        generators = isolate_rng(include_cuda=False)
        generators.__enter__()
        # It restores nothing if it is told of an error.
        after.callback(generators.__exit__, None, None, None)
        after.push(partial(_leave_trackers, _mlflow_server()))
        with warnings.catch_warnings():
            for message, category in _HARMLESS:
                warnings.filterwarnings("ignore", message=message, category=category)
            lightning.setLevel(logging.WARNING)
            if not torch.cuda.is_available():
                # Lightning sets it, and torch's optimizers then look for a driver at every step.
                os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
            begin(seed, threads=threads, tf32=tf32)
            yield


def begin(seed: int, *, threads: int, tf32: bool) -> None:
    """Set, inside of `isolated`, what a run begins with."""
    set_threads(threads)
    set_arithmetic(tf32=tf32)
    _seed(seed)


@cache
def _host_freezes() -> bool:
    """Tell whether the process has frozen objects; asked once, as each of them is counted."""
    return gc.get_freeze_count() > 0


def set_arithmetic(*, tf32: bool) -> None:
    """Say whether a GPU may compute float32 in TF32, which torch itself lets convolutions do.

    By torch's older names: Lightning reads them, and fails where only the newer ones were set.
    """
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    # Of deterministic algorithms: nothing here reads what it has not written.
    _deterministic.fill_uninitialized_memory = False


class Arithmetic(Callback):
    """Sets it in each process of a run, of which only the first is `isolated`."""

    def __init__(self, *, tf32: bool):
        self.tf32 = tf32

    def setup(self, trainer: Trainer, module: Any, stage: str) -> None:
        """Set it before anything is computed."""
        set_arithmetic(tf32=self.tf32)


def _restore_arithmetic(after: ExitStack) -> None:
    fill = _deterministic.fill_uninitialized_memory
    after.callback(setattr, _deterministic, "fill_uninitialized_memory", fill)
    try:
        precision, allowed = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError as error:
        raise InputError(
            "torch cannot say how it computes float32, as it was told by `fp32_precision`: leave "
            "that, or use torch.set_float32_matmul_precision and torch.backends.cudnn.allow_tf32"
        ) from error
    after.callback(torch.set_float32_matmul_precision, precision)
    after.callback(setattr, torch.backends.cudnn, "allow_tf32", allowed)


def _seed(seed: int) -> None:
    """Do what Lightning's `seed_everything` does, but for the GPUs, which a run may not use."""
    os.environ |= {"PL_GLOBAL_SEED": str(seed), "PL_SEED_WORKERS": "0"}  # for its processes
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)


@contextmanager
def seeded_gpu(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the generator of the GPU that a run uses, and restore it afterwards.

    No other GPU is touched: that would make a context there, hundreds of megabytes.
    """
    if device.type == "mps":
        torch.mps.manual_seed(seed)
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_rng_state(device)
    with torch.cuda.device(device):
        torch.cuda.manual_seed(seed)
    try:
        yield
    finally:
        torch.cuda.set_rng_state(before, device)


def _mlflow_server() -> str | None:
    """Return the tracking URI that was set, if anything has imported mlflow and set one."""
    mlflow: Any = sys.modules.get("mlflow")
    return mlflow.get_tracking_uri() if mlflow and mlflow.is_tracking_uri_set() else None


def _leave_trackers(server: str | None, failure: type[BaseException] | None, *_: object) -> None:
    if wandb := sys.modules.get("wandb"):  # the next job would go on with this one's run
        wandb.finish(exit_code=0 if failure is None else 1)
    if server != _mlflow_server():
        sys.modules["mlflow"].set_tracking_uri(server)


def _free_memory() -> None:
    gc.collect()  # a network and its trainer refer to each other
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
