"""Plain loops do a run's work, and operations are counted."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import stelab
from stelab.engine.studies import read_run
from stelab.lab.bench import loops
from stelab.lab.bench.commands import clock
from stelab.lab.bench.counting import Counter
from stelab.lab.bench.steps import COUNTED
from stelab.lab.data.datamodule import Batches
from stelab.lab.models import Autoencoder
from stelab.lab.training import build_module
from stelab.lab.training.building import build_data

SETTING = ("model=mlp", "data=mnist5k", "trainer.accelerator=cpu")
# Channels, their kernels and positions: forward, and backward twice, but not to the images.
PRODUCTS = [
    *(64 * 1 * 16 * 196, 128 * 64 * 16 * 49, 256 * 128 * 16 * 9, 512 * 256 * 16),
    *(512 * 256 * 25, 256 * 128 * 25 * 9, 128 * 64 * 16 * 49, 64 * 1 * 16 * 196),
]
TUTORIAL = 2 * (3 * sum(PRODUCTS) - PRODUCTS[0]) / 1e6


def test_kernels_waits_and_products_are_counted() -> None:
    a, b = torch.rand(3, 4), torch.rand(4, 5)
    with Counter() as counter:
        a.T.view(4, 3)
        torch.empty(3)
        c = a @ b
        assert (counter.kernels, counter.waits, counter.flops) == (1, 0, 2 * 3 * 4 * 5)
        c.relu().sum().item()
        assert (counter.kernels, counter.waits) == (4, 1)
        c.nonzero()
        assert (counter.kernels, counter.waits) == (5, 2)
    c.sum().item()
    assert counter.of_a_step(10) == {
        "kernels": 5 / COUNTED,
        "waits": 2 / COUNTED,
        "mflop_an_image": 120 / 10 / 1e6,
    }


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """What a run of ``stelab train`` says of itself."""
    outputs = tmp_path_factory.mktemp("outputs")
    file = outputs / "clock.json"
    endless = ("trainer.max_epochs=1000", *clock(file, seconds=0.3))
    run = stelab.train(stelab.compose(*SETTING, f"paths.outputs={outputs}", *endless))
    assert read_run(run.folder).status == "finished"
    assert run.record["epochs"] < 1000
    values: dict[str, float] = json.loads(file.read_text())
    return values


@pytest.mark.parametrize("loop", ["tutorial", "plain"])
def test_a_loop_does_the_work_of_a_run(
    loop: str, measured: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    loops.main(loop, "1", "0.05", *SETTING)
    values = json.loads(capsys.readouterr().out)
    known = measured["mflop_an_image"] if loop == "plain" else TUTORIAL
    assert values["mflop_an_image"] == pytest.approx(known)
    assert values.keys() == measured.keys() - {"first_step"}
    assert min(values["images_per_s"], values["kernels"], values["peak_mib"]) > 0
    assert measured["images_per_s"] > 0


def test_the_tutorials_images_are_those_of_the_run() -> None:
    data = build_data(stelab.compose(*SETTING, "data.limit=3"))
    digits = loops.Digits(data)
    made = torch.stack([digits[i] for i in range(len(digits))])
    assert torch.allclose(made, data.images("train"), atol=1e-6)


def test_the_peak_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    loops.main("peak", "1", "0.01", *SETTING)
    assert json.loads(capsys.readouterr().out)["gflops"] > 0


def test_the_plain_loop_trains_like_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights after an epoch of the same batches are those of stelab's own step."""
    cfg: Any = stelab.compose(*SETTING, "data.limit=256")
    data = build_data(cfg)
    module = build_module(cfg).train()
    assert isinstance(module.model, Autoencoder)
    start = {name: value.clone() for name, value in module.model.state_dict().items()}
    order = torch.arange(256)
    monkeypatch.setattr(torch, "randperm", lambda count, device: order)
    steps = loops.plain(module.model, cfg, data, torch.device("cpu"))
    assert [next(steps) for _ in range(4)] == [64] * 4
    trained = {name: value.clone() for name, value in module.model.state_dict().items()}

    module.model.load_state_dict(start)
    optimizer = module.configure_optimizers()["optimizer"]
    for batch in Batches(data.tensors("train"), batch_size=64, seed=None):
        loss = module.task.losses(module.model(batch["images"]), batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, value in module.model.state_dict().items():
        torch.testing.assert_close(value, trained[name], rtol=1e-5, atol=1e-6)
