"""What a job may not leave behind for the next one in the same process."""

import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from pytorch_lightning import seed_everything
from pytorch_lightning.utilities.seed import isolate_rng

from stelab.lab.training.threads import set_threads

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
def isolated(seed: int, *, threads: int) -> Iterator[None]:
    """Seed all random generators and set the CPU threads; afterwards restore all global state."""
    lightning = logging.getLogger("pytorch_lightning")
    with ExitStack() as after:  # in reverse order
        if not gc.get_freeze_count():  # a host that has frozen its own objects keeps it so
            gc.freeze()  # so that the collection at the end looks at this job's objects only
            after.callback(gc.unfreeze)
        after.callback(_free_memory)
        after.callback(lightning.setLevel, lightning.level)
        after.callback(torch.set_num_threads, torch.get_num_threads())
        after.callback(torch.autograd.set_detect_anomaly, torch.is_anomaly_enabled())
        after.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
        after.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        after.callback(
            torch.use_deterministic_algorithms,
            torch.are_deterministic_algorithms_enabled(),
            warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        after.callback(torch.set_default_dtype, torch.get_default_dtype())
        after.callback(os.environ.update, dict(os.environ))
        after.callback(os.environ.clear)
        generators = isolate_rng()
        generators.__enter__()
        # It restores nothing if it is told of an error.
        after.callback(generators.__exit__, None, None, None)
        after.push(partial(_leave_trackers, _mlflow_server()))
        with warnings.catch_warnings():
            for message, category in _HARMLESS:
                warnings.filterwarnings("ignore", message=message, category=category)
            lightning.setLevel(logging.WARNING)
            set_threads(threads)
            seed_everything(seed, verbose=False)
            yield


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
