"""Steps on a GPU: captured as they are taken, stacked as they are alone, and never waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from members import NAMES
from torch import Tensor

import stelab
from conftest import train
from resuming import assert_same, stop_at, weights
from stelab.lab.training.building import build_data, build_module
from stelab.lab.training.captured import CapturedStep
from stelab.lab.training.finite import FiniteCheck
from stelab.lab.training.static_step import StaticStep
from stelab.lab.training.steps import EpochLoop

GPU = ("trainer.accelerator=gpu", "trainer.deterministic=true")
GRAPH = "trainer.step=graph"
SIZES = ("data.limit=520", "data.batch_size=16", "trainer.max_epochs=2")  # the last one has 8
NO_GRAPH = ("exact",)  # 2^bits codes


@contextmanager
def no_waits() -> Iterator[None]:
    """Fail where the host waits for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def gradients(step: StaticStep, batches: list[dict[str, Tensor]]) -> list[list[Tensor]]:
    found = []
    for number, batch in enumerate(batches):
        step(batch, number)
        found.append([g.clone() for g in step.gradient if g is not None])
    return found


@pytest.mark.filterwarnings("ignore:every bit is constant")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in NO_GRAPH])
def test_every_estimators_captured_step_is_the_step(name: str) -> None:
    """Bit by bit, over steps before and after it is captured; and none of them waits."""
    cfg = stelab.compose(f"estimator={name}", "model=mlp", "model.bits=16", "data=mnist5k")
    batches = [
        {key: part.cuda() for key, part in batch.items()}
        for batch, _ in zip(build_data(cfg).batches("val"), range(1), strict=False)
    ]
    batches = [{k: part[i : i + 32] for k, part in batches[0].items()} for i in range(0, 256, 32)]
    made = []
    for kind in (StaticStep, CapturedStep):
        torch.manual_seed(0)
        module = build_module(cfg).train().cuda()
        step = kind(module, size=32)
        step(batches[0], 0)  # sets libraries up, which may wait
        with no_waits():
            made.append(gradients(step, batches))
    for ours, theirs in zip(*made, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(
    "choices",
    [
        "estimator=hardtanh_clip threshold=running_median scheduler=onecycle",
        "estimator=rebar threshold=annealed model.norm=group",
        "estimator=bernoulli_st optimizer=sgd",
        "estimator=bernoulli_st optimizer.fused=false trainer.gradient_clip_val=0.1",
        "model=conv trainer.channels_last=true data.limit=32",
    ],
)
def test_a_captured_run_is_the_eager_one(tmp_path: Path, choices: str) -> None:
    overrides = (*SIZES, *choices.split(), *GPU)
    graph, eager = train(tmp_path, *overrides, GRAPH), train(tmp_path, *overrides)
    ours, theirs = weights(graph, "last"), weights(eager, "last")
    if "rebar" not in choices:  # whose noise is another after a bit that rounding flips
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)
    assert graph.metrics["test/mse"] == pytest.approx(eager.metrics["test/mse"], rel=1e-2)


def test_a_captured_run_continues_bit_by_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (*SIZES, *GPU, GRAPH, "estimator=bernoulli_st", "threshold=annealed")
    whole = train(tmp_path / "whole", *overrides)
    with monkeypatch.context() as stopping, pytest.raises(SystemExit):
        stop_at(stopping, 45)  # in the second epoch
        train(tmp_path / "parts", *overrides)
    assert_same(train(tmp_path / "parts", *overrides), whole)


@pytest.mark.parametrize("step", ["eager", "graph"])
@pytest.mark.parametrize("model", ["mlp", "conv"])
def test_no_step_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, model: str
) -> None:
    """Of those that nobody watches; whether all was finite is looked up every 16 steps."""
    plain, look = EpochLoop.step, FiniteCheck.look
    taken: list[int] = []

    def step_without_waits(self: EpochLoop, fetcher: Any) -> None:
        if self.global_step < 10 or self.watching(self.batch_progress.current.ready):
            return plain(self, fetcher)
        taken.append(self.global_step)
        with no_waits():
            plain(self, fetcher)

    def look_and_wait(self: FiniteCheck) -> None:
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("default")
        look(self)
        torch.cuda.set_sync_debug_mode(mode)

    monkeypatch.setattr(EpochLoop, "step", step_without_waits)
    monkeypatch.setattr(FiniteCheck, "look", look_and_wait)
    train(tmp_path, *SIZES, f"trainer.step={step}", f"model={model}", "trainer.accelerator=gpu")
    assert len(taken) > 20


def test_the_cpu_trains_the_same(tmp_path: Path) -> None:
    """The same random bits, and batches: up to rounding, as long as it flips no bit."""
    overrides = ("data.limit=64", "data.batch_size=16", "optimizer=sgd", "estimator=bernoulli_st")
    gpu = weights(train(tmp_path, *overrides, *GPU), "last")
    cpu = weights(train(tmp_path, *overrides, "trainer.accelerator=cpu"), "last")
    for name, value in cpu.items():
        torch.testing.assert_close(gpu[name].cpu(), value, rtol=1e-3, atol=1e-4)
