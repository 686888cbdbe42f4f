"""A job leaves nothing behind for the next one in its process."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
from pathlib import Path

import numpy as np
import torch

from conftest import train
from stelab.lab.training.isolation import isolated


def state() -> dict[str, object]:
    return {
        "environment": dict(os.environ),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "benchmark": torch.backends.cudnn.benchmark,
        "anomaly": torch.is_anomaly_enabled(),
        "threads": torch.get_num_threads(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state(legacy=True)[1].tolist(),  # type: ignore[index]
        "python": random.getstate(),
        "signals": {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)},
        "levels": {name: logging.getLogger(name).level for name in ("", "pytorch_lightning")},
        "handlers": len(logging.getLogger().handlers),
    }


def test_everything_is_as_before() -> None:
    before = state()
    with isolated(1, threads=1):
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        torch.set_float32_matmul_precision("medium")
        torch.autograd.set_detect_anomaly(True)
        torch.rand(3)
        np.random.rand()
        random.random()
        os.environ["LEFT_BEHIND"] = "1"
        logging.getLogger("pytorch_lightning").setLevel(logging.DEBUG)
    assert state() == before


def test_a_run_leaves_everything_as_before(tmp_path: Path) -> None:
    train(tmp_path, "seed=9")  # what is imported first may set things once
    before = state()
    train(tmp_path, "trainer.precision=64-true", "trainer.detect_anomaly=true")
    assert state() == before


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def test_memory_stays_flat_over_many_jobs(tmp_path: Path) -> None:
    sizes = []
    for seed in range(20):
        train(tmp_path, f"seed={seed}", "data.limit=64")
        gc.collect()
        sizes.append(resident())
    early, late = max(sizes[5:9]), max(sizes[16:])  # each kept network would be 10 MiB
    assert late - early < 20 * 2**20, [size // 2**20 for size in sizes]


def test_the_collection_after_a_job_passes_by_what_was_there_before() -> None:
    frozen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            frozen.append(gc.get_freeze_count())

    gc.unfreeze()  # what conftest froze
    gc.callbacks.append(note)
    try:
        with isolated(1, threads=1):
            pass
        assert gc.get_freeze_count() == 0
    finally:
        gc.callbacks.remove(note)
        gc.freeze()
    assert frozen and all(count > 100_000 for count in frozen)
