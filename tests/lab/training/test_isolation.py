"""A job leaves nothing behind for the next one in its process."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from conftest import train
from stelab.engine.errors import InputError
from stelab.lab.training.isolation import _host_freezes, isolated

deterministic: Any = torch.utils.deterministic


def state() -> dict[str, object]:
    return {
        "environment": dict(os.environ),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "convolutions": torch.backends.cudnn.allow_tf32,
        "filled": deterministic.fill_uninitialized_memory,
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
        torch.backends.cudnn.allow_tf32 = not before["convolutions"]
        deterministic.fill_uninitialized_memory = not before["filled"]
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


def arithmetic() -> tuple[str, bool, bool]:
    convolutions, filled = torch.backends.cudnn.allow_tf32, deterministic.fill_uninitialized_memory
    return torch.get_float32_matmul_precision(), convolutions, filled


@pytest.mark.parametrize(
    ("override", "expected"),
    [("", ("highest", False, False)), ("trainer.tf32=true", ("high", True, False))],
)
def test_a_run_computes_float32_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, expected: tuple[object, ...]
) -> None:
    seen: list[object] = []

    def note(module: object) -> None:
        seen.append(arithmetic())

    monkeypatch.setattr(pl.LightningModule, "on_train_epoch_start", note)
    before = arithmetic()
    machine = train(tmp_path, *override.split()).record["machine"]
    assert seen == [expected]
    assert arithmetic() == before == ("highest", True, True)  # as torch has it
    assert machine["float32_matmul_precision"] == expected[0]
    assert machine["matmul_allow_tf32"] is machine["cudnn_allow_tf32"] is expected[1]


def test_what_torch_cannot_say_is_refused() -> None:
    if not hasattr(torch.backends.cudnn, "conv"):
        pytest.skip("torch 2.8 or older, which has no newer names")
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # and tf32 of recurrent layers
    try:
        with (
            pytest.raises(InputError, match="was told by `fp32_precision`"),
            isolated(1, threads=1),
        ):
            pass
    finally:
        torch.backends.cudnn.allow_tf32 = True
    assert arithmetic() == ("highest", True, True)


class NewerNames(pl.Callback):
    """Sets how convolutions compute, but not recurrent layers, by torch's newer names."""

    def on_test_end(self, *_: object) -> None:
        """Set it."""
        cudnn: Any = torch.backends.cudnn
        cudnn.conv.fp32_precision = "tf32"


def test_what_torch_cannot_say_is_recorded_as_that(tmp_path: Path) -> None:
    if not hasattr(torch.backends.cudnn, "conv"):
        pytest.skip("torch 2.8 or older, which has no newer names")
    machine = train(tmp_path, "+callbacks.names._target_=test_isolation.NewerNames").record[
        "machine"
    ]
    assert machine["cudnn_allow_tf32"] == "set by fp32_precision=ieee"
    assert machine["matmul_allow_tf32"] is False
    assert arithmetic() == ("highest", True, True)


def test_no_gpu_is_touched_that_a_run_does_not_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touch(*_: object) -> None:
        raise AssertionError("a context would be made on every GPU")

    for name in ("get_rng_state_all", "set_rng_state_all", "manual_seed_all", "get_rng_state"):
        monkeypatch.setattr(torch.cuda, name, touch)
    # Lightning's own, around the sanity check that there is not.
    monkeypatch.setattr("pytorch_lightning.trainer.trainer.isolate_rng", nullcontext)
    train(tmp_path)


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
    _host_freezes.cache_clear()
    gc.callbacks.append(note)
    try:
        with isolated(1, threads=1):
            pass
        assert gc.get_freeze_count() == 0
    finally:
        _host_freezes.cache_clear()
        gc.callbacks.remove(note)
        gc.freeze()
    assert frozen and all(count > 100_000 for count in frozen)
