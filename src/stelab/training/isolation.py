"""What a job may not leave behind for the next one in the same process."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pytorch_lightning import seed_everything
from pytorch_lightning.utilities.seed import isolate_rng


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed all random generators; afterwards restore them and torch's global switches."""
    environment = dict(os.environ)
    dtype = torch.get_default_dtype()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    precision = torch.get_float32_matmul_precision()
    benchmark = torch.backends.cudnn.benchmark
    anomaly = torch.is_anomaly_enabled()
    try:
        with isolate_rng(), warnings.catch_warnings():
            # pytorch-lightning 2.6 calls, once a run, what torch 2.14 deprecates.
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            seed_everything(seed, verbose=False)
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        torch.set_default_dtype(dtype)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.benchmark = benchmark
        torch.autograd.set_detect_anomaly(anomaly)
