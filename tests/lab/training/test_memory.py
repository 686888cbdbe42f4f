"""What glibc does with freed memory while a run trains, by the kernel's own counts."""

import ctypes
import os
import resource
from pathlib import Path

import pytest
import torch

from stelab.lab.training.memory import kept_memory

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc"
)
PAGE = resource.getpagesize()
STEP = [torch.float32] * 8  # tensors of 48 MiB, which glibc by itself maps anew each time
SIZE = 12 * 2**20


def step() -> None:
    parts = [torch.zeros(SIZE, dtype=dtype) for dtype in STEP]
    del parts


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def resident() -> int:
    return int(Path(f"/proc/{os.getpid()}/statm").read_text().split()[1]) * PAGE


def test_a_step_takes_what_the_one_before_has_freed() -> None:
    with kept_memory():
        for _ in range(3):
            step()
        before = faults()
        for _ in range(5):
            step()
        assert faults() - before < 5 * SIZE * 4 / PAGE  # one of each step's eight tensors


def test_it_is_given_back_at_the_end() -> None:
    before = resident()
    with kept_memory():
        step()
        assert resident() > before + 4 * SIZE * 4
    assert resident() < before + SIZE * 4
