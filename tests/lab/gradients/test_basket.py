"""The basket of estimators that is measured while another trains."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conftest import train
from stelab.engine.studies import Run
from stelab.engine.studies.curves import read_curves

NAMES = ("identity", "bernoulli_st", "reinmax", "gumbel_st", "disarm")
KEYS = ("cosine", "relative_bias", "variance")


@pytest.fixture(scope="module")
def with_basket(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(
        tmp_path_factory.mktemp("outputs"),
        "estimator=reinmax",
        "callbacks=basket",
        "callbacks.basket.every_n_steps=2",
        "callbacks.basket.bits=5",
        "callbacks.basket.samples=200",
        "trainer.max_epochs=2",
    )


def test_it_logs_the_basket(with_basket: Run) -> None:
    curves = read_curves(with_basket.folder / "metrics.csv", epochs=2)
    looks: dict[str, list[int]] = {}
    for events in (with_basket.folder / "tb").glob("events*"):
        board = EventAccumulator(str(events)).Reload()
        for tag in board.Tags()["scalars"]:
            looks.setdefault(tag, []).extend(event.step for event in board.Scalars(tag))
    for name in NAMES:
        for key in KEYS:
            tag = f"gradients/{name}/{key}"
            assert not any(map(math.isnan, curves[tag]))
            assert looks[f"{tag}_step"] == [0, 2]
    for epoch in range(2):
        st, heun = (curves[f"gradients/{n}/cosine"][epoch] for n in ("identity", "reinmax"))
        assert -1 <= st < heun <= 1
    assert curves["gradients/disarm/variance"][0] > curves["gradients/reinmax/variance"][0]


def test_it_does_not_touch_the_training(with_basket: Run, tmp_path: Path) -> None:
    alone = train(tmp_path, "estimator=reinmax", "trainer.max_epochs=2")
    for name in ("train/loss", "val/loss", "test/mse", "code/mean", "estimator/grad_norm"):
        assert with_basket.metrics[name] == alone.metrics[name]
    states = [
        torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in (with_basket, alone)
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.filterwarnings("ignore:every bit is constant")
@pytest.mark.parametrize("estimator", ["relax", "reinforce_learned", "exact"])
def test_what_is_made_for_the_whole_code_is_measured_on_a_part(
    estimator: str, tmp_path: Path
) -> None:
    choice = (f"estimator={estimator}", "model.norm=group", "model.bits=6", "trainer.max_epochs=1")
    alone = train(tmp_path, *choice)
    run = train(
        tmp_path,
        *(*choice, "study=measured", "callbacks=basket"),
        *("callbacks.basket.bits=3", "callbacks.basket.samples=1000"),
        "+callbacks.basket.estimators.own=${estimator}",
    )
    assert run.metrics["train/loss"] == alone.metrics["train/loss"]
    least = {"relax": 0.9, "reinforce_learned": 0.5, "exact": 1 - 1e-6}[estimator]
    assert least <= run.metrics["gradients/own/cosine"] <= 1 + 1e-6
    assert (run.metrics["gradients/own/variance"] == 0) == (estimator == "exact")


def test_what_has_no_exact_gradient_is_not_measured(tmp_path: Path) -> None:
    """Of uniform noise, where every logit is out of its reach, which leaves the others alone."""
    narrow = "{_target_: stelab.estimators.UniformNoise, scale: 1.0e-9, stochastic: false}"
    told = r"narrow is not measured at step 0: the exact gradient of its problem is 0"
    with pytest.warns(UserWarning, match=told) as warned:
        run = train(
            tmp_path,
            *("trainer.max_epochs=1", "callbacks=basket", "callbacks.basket.every_n_steps=1"),
            *("callbacks.basket.bits=3", f"+callbacks.basket.estimators.narrow={narrow}"),
        )
    assert len([each for each in warned if "not measured" in str(each.message)]) == 1
    assert "gradients/narrow/cosine" not in run.metrics
    assert math.isfinite(run.metrics["gradients/identity/cosine"])
