"""A step as one program: the eager numbers, the same however often it was left and watched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

import stelab
from conftest import train
from resuming import assert_same, stop_at, weights
from stelab.engine.errors import InputError
from stelab.estimators import Identity
from stelab.lab.training.building import build_data, build_module
from stelab.lab.training.captured import capture_update
from stelab.lab.training.check import check
from stelab.lab.training.module import TaskModule
from stelab.lab.training.static_step import StaticStep
from waits import Waits

COMPILED = "trainer.step=compiled"
SIZES = ("data.limit=52", "data.batch_size=16", "trainer.max_epochs=2")  # the last one has 4


@pytest.mark.filterwarnings("ignore:every bit is constant")
@pytest.mark.parametrize(
    "choices",
    [
        "estimator=hardtanh_clip threshold=running_median scheduler=onecycle",
        "estimator=rebar threshold=annealed model.norm=group",  # differentiates twice, and learns
        "estimator=reinforce_moving_average model.norm=none optimizer=radam",
        "trainer.gradient_clip_val=0.1 trainer.precision=bf16-mixed optimizer.fused=false",
        "trainer.precision=64-true optimizer=sgd estimator=bernoulli_st",
        "model=conv trainer.channels_last=true data.limit=32",
    ],
)
def test_a_static_step_computes_what_an_eager_one_does(tmp_path: Path, choices: str) -> None:
    """All of it but the compiler, which rounds otherwise: bit by bit."""
    overrides = (*SIZES, *choices.split())
    eager = train(tmp_path, *overrides)
    with torch.compiler.set_stance("force_eager"):
        static = train(tmp_path, *overrides, COMPILED)
    assert static.name != eager.name
    ours, theirs = weights(static, "last"), weights(eager, "last")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    tables = [(run.folder / "metrics.csv").read_bytes() for run in (static, eager)]
    assert tables[0] == tables[1]


def test_a_compiled_run_is_the_same_stopped_and_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one program, for all of its steps."""
    programs: list[int] = []

    def note(self: TaskModule) -> None:
        programs.append(counters["stats"]["unique_graphs"] - before)

    monkeypatch.setattr(TaskModule, "on_train_end", note)
    before = counters["stats"]["unique_graphs"]
    overrides = (*SIZES, COMPILED, "estimator=bernoulli_st", "threshold=annealed")
    whole = train(tmp_path / "whole", *overrides)
    assert programs == [1]
    eager = train(tmp_path, *(set(overrides) - {COMPILED}))
    assert whole.metrics["test/mse"] == pytest.approx(eager.metrics["test/mse"], rel=0.05)
    with monkeypatch.context() as stopping, pytest.raises(SystemExit):
        stop_at(stopping, 6)  # in the second epoch, of four steps
        train(tmp_path / "parts", *overrides)
    assert_same(train(tmp_path / "parts", *overrides), whole)
    watched = train(tmp_path, *overrides, "callbacks.gradient.every_n_steps=1")
    ours, theirs = weights(watched, "last"), weights(whole, "last")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "override",
    [
        "trainer.accumulate_grad_batches=2",
        "trainer.detect_anomaly=true",
        "trainer=ddp trainer.devices=2 trainer.accelerator=cpu",
    ],
)
def test_what_has_no_program_is_refused(override: str) -> None:
    cfg = stelab.compose("debug=fast", "model=mlp", *override.split(), COMPILED)
    with pytest.raises(InputError, match="is for runs on one device, with") as raised:
        check([cfg])
    assert "\n" not in str(raised.value)


def test_no_compiler_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler, and there is none: install g"):
        check([stelab.compose("debug=fast", "model=mlp", COMPILED)])


def test_a_captured_step_needs_a_gpu() -> None:
    cfg = stelab.compose("debug=fast", "model=mlp", "trainer.step=graph")
    with pytest.raises(InputError, match="graph needs a CUDA GPU, and this run is on cpu: take"):
        check([cfg])


@pytest.mark.parametrize(
    "choices",
    [
        "model=mlp estimator=relax model.bits=8 model.norm=group",
        "model=conv model.bits=8 threshold=running_median",
        "experiment=quickstart_classify",
        "experiment=quickstart_tokenize",
        "experiment=quickstart_vae estimator=bernoulli_st data.mean=0 data.std=1",
        "task=elbo model=vae_categorical data.mean=0 data.std=1 loss=bernoulli",
    ],
)
def test_a_static_step_neither_waits_for_the_device_nor_copies_to_it(choices: str) -> None:
    """As capturing it asks for."""
    cfg = stelab.compose("trainer=cpu", "data=mnist5k", *choices.split())
    module = build_module(cfg).train()
    batch = build_data(cfg).example()
    step = StaticStep(module, size=2)
    with Waits() as waits:
        step(batch, 5)
        step.backward()
    assert not waits.found
    assert all(p.grad is not None for p in step.parameters)


class Reads(Identity):
    """Decides by a number on the device."""

    def forward(self, s: Tensor, **named: Any) -> Tensor:
        return super().forward(s if s.sum() > 0 else 2 * s, **named)


def test_a_step_that_is_no_program_is_refused() -> None:
    own = ("estimator._target_=test_static_step.Reads", "data=mnist5k", "model=mlp")
    cfg = stelab.compose("trainer=cpu", *own, COMPILED)
    with pytest.raises(InputError, match=r"is no program of tensors alone.*: Data-dep") as raised:
        check([cfg])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_an_update_of_gradients_that_move_is_no_graph(kind: Any) -> None:
    """But the optimizer's own, with a schedule that writes the learning rate where it lies."""
    found = []
    for captured in (True, False):
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        optimizer = kind(layer.parameters(), lr=0.1, fused=True)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        if captured:
            capture_update(optimizer)
            (group,) = optimizer.param_groups
            place = group["lr"].data_ptr()

        def closure(layer: Any = layer) -> Tensor:
            layer.zero_grad()
            loss: Tensor = layer(torch.ones(1, 3)).square().sum()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
            schedule.step()
        if captured:
            assert group["lr"].data_ptr() == place
            assert group["lr"].item() == pytest.approx(0.1 / 8)
        found.append(torch.cat([layer.weight.flatten(), layer.bias]))
    torch.testing.assert_close(*found)
