"""Free variables under a loss: exact expectations, gradients, wrong attractors, a run's numbers."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

import stelab
from stelab.engine.errors import InputError
from stelab.engine.sweepers.plan import plan
from stelab.lab.data.datamodule import Batch
from stelab.lab.models import Logits
from stelab.lab.tasks import Minimize
from stelab.lab.training import TaskModule, build_module
from stelab.lab.training.check import check
from stelab.lab.training.restore import evaluate

POWERS = (1.5, 2.0, 3.0)
ONE_HOTS = ("model=logits_categorical", "categorical=st", "categorical.temperature=1")
ONE = {"images": torch.zeros(1, 1, 1, 1)}


def built(*overrides: str) -> tuple[Minimize, Logits, TaskModule]:
    """Return task and network in float64, as `build_module` does."""
    module = build_module(stelab.compose("task=minimize", *overrides)).double()
    assert isinstance(module.task, Minimize)
    assert isinstance(module.model, Logits)
    return module.task, module.model, module


def begin_at(model: Logits, theta: Tensor) -> Tensor:
    """Set the logits; return the parameter."""
    (parameter,) = model.parameters()
    with torch.no_grad():
        parameter.copy_(theta)
    return parameter


def expected(module: TaskModule) -> float:
    return module.evaluate("test", ONE, 0)["loss"].item()


def attractor(power: float) -> float:
    """P(z = 1) where the mean of straight-through's update is 0."""
    near, far = 0.45 ** (power - 1), 0.55 ** (power - 1)
    return near / (near + far)


@pytest.mark.parametrize("power", POWERS)
def test_the_loss_is_the_expected_one(power: float) -> None:
    p = torch.rand(128, dtype=torch.float64)
    loss = (p * 0.55**power + (1 - p) * 0.45**power).mean().item()
    _, model, module = built(f"loss.power={power}")
    begin_at(model, p.logit())
    assert expected(module) == pytest.approx(loss, rel=1e-12)
    _, model, module = built(f"loss.power={power}", *ONE_HOTS)
    begin_at(model, torch.stack([1 - p, p], dim=-1).log())
    assert expected(module) == pytest.approx(loss, rel=1e-12)
    _, model, module = built(f"loss.power={power}", *ONE_HOTS, "model.values=[-1,0.25]")
    begin_at(model, torch.stack([1 - p, p], dim=-1).log())
    loss = (p * 0.2**power + (1 - p) * 1.45**power).mean().item()
    assert expected(module) == pytest.approx(loss, rel=1e-12)


def test_draws_average_to_it() -> None:
    task, model, module = built("model.bits=3", "model.spread=2")
    with torch.no_grad():
        losses = task.losses(model(torch.zeros(20_000, 1, 1, 1)), ONE)
    z = (losses.mean() - expected(module)) / (losses.std() / math.sqrt(len(losses)))
    assert abs(z.item()) < 4


def test_a_stack_has_a_centre_for_each_run() -> None:
    task, _, _ = built()
    values, centres = torch.rand(2, 5, 3), torch.tensor([0.25, -1.0])

    def losses(values: Tensor, centre: Tensor) -> Tensor:
        task.centre = centre  # type: ignore[assignment]
        return task.losses(values, ONE)

    expected = (values - centres[:, None, None]).square().mean(2)
    torch.testing.assert_close(torch.vmap(losses)(values, centres), expected)


@pytest.mark.parametrize("power", POWERS)
def test_straight_through_rests_at_its_attractor(power: float) -> None:
    """By enumeration of the two values, and nowhere near it; its loss to four digits."""
    p = attractor(power)
    task, model, module = built(f"loss.power={power}", "model.bits=1", *ONE_HOTS)

    def mean_update(p: float) -> float:
        law = torch.tensor([1 - p, p], dtype=torch.float64)
        theta = begin_at(model, law.log())
        x = model.encoder(torch.zeros(2, 1, 1, 1))
        one_hots = torch.eye(2, dtype=torch.float64)[:, None]
        code = model.binarizer.estimator(x, sample=one_hots)
        (law * task.losses(model.decode(code), ONE)).sum().backward()
        assert theta.grad is not None
        update, theta.grad = -theta.grad[0, 1].item(), None
        return update

    assert mean_update(p - 0.01) > 1e-4
    assert mean_update(p + 0.01) < -1e-4
    assert mean_update(p) == pytest.approx(0, abs=1e-15)
    known = {1.5: 0.35222, 2.0: 0.24750, 3.0: 0.12130}[power]
    assert expected(module) == pytest.approx(known, abs=5e-6)


@pytest.mark.parametrize("power", POWERS)
def test_flipping_every_bit_gives_the_exact_gradient(power: float) -> None:
    """Of 128 bits, too many to enumerate: their losses add up, so each flip tells its part."""
    task, model, _ = built(f"loss.power={power}", "estimator=mvd")
    theta = begin_at(model, torch.linspace(-3, 3, 128))
    batch: Batch = {"images": torch.zeros(4, 1, 1, 1)}
    f = partial(model.losses, outcome=partial(task.losses, batch=batch), generator=None)
    model.binarizer.loss(model.encoder(batch["images"]), f).backward()
    p = theta.detach().sigmoid()
    exact = (0.55**power - 0.45**power) * p * (1 - p) / 128
    assert theta.grad is not None
    torch.testing.assert_close(theta.grad, exact, rtol=1e-9, atol=0.0)


def test_a_run_descends_as_its_exact_gradient_says(tmp_path: Path) -> None:
    """One bit by gradient descent: theta falls by (1 - 2 c) p (1 - p), from 0."""
    overrides = ("model.bits=1", "model.spread=0", "estimator=exact", "optimizer=sgd")
    short = (
        "optimizer.lr=1",
        "optimizer.momentum=0",
        "data.steps=20",
        "trainer.max_epochs=2",
        f"paths.outputs={tmp_path}",
    )
    run = stelab.train(stelab.compose("task=minimize", *overrides, *short, "task.centre=0.25"))
    theta, losses = 0.0, []
    for _ in range(40):
        p = 1 / (1 + math.exp(-theta))
        theta -= 0.5 * p * (1 - p)
        losses.append(0.75**2 * (after := 1 / (1 + math.exp(-theta))) + 0.25**2 * (1 - after))
    curve = pd.read_csv(run.folder / "metrics.csv")["val/loss"]
    assert curve.tolist() == pytest.approx([losses[19], losses[39]], rel=1e-5)
    assert run.metrics["test/loss"] == pytest.approx(losses[39], rel=1e-5)
    assert not [name for name in run.metrics if name.startswith("code/")]
    assert run.record["task"] == {"metric": "loss", "better": "lower"}
    assert evaluate(run, "last", "test") == pytest.approx({"test/loss": losses[39]}, rel=1e-5)


def test_a_loss_of_whole_codes_is_refused_before_anything_trains() -> None:
    with pytest.raises(InputError, match=r"one value a variable, shape \(2, 128\), but returns"):
        check([stelab.compose("task=minimize", "loss=mse")])
    torchs = ("loss._target_=torch.nn.MSELoss", "~loss.power", "+loss.reduction=none")
    check([stelab.compose("task=minimize", *torchs)])


@pytest.mark.parametrize(
    ("experiment", "chosen", "rows"),
    [
        ("polynomial", "loss.power=2", 8),
        ("hooper_polynomial", "loss.power=2", 9),
        ("toy", "task.centre=0.45", 7),
    ],
)
def test_a_published_table_is_one_command(experiment: str, chosen: str, rows: int) -> None:
    command = [f"experiment={experiment}", "seed=0", chosen]
    jobs = plan("train", command, multirun=False, config_dir=None).jobs
    assert len(jobs) == rows
    assert {job.study for job in jobs} == {experiment}
    assert {job.task._target_ for job in jobs} == {"stelab.lab.tasks.Minimize"}
