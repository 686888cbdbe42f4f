"""The variance of several estimators' gradients, followed while one trains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

import stelab
from conftest import train
from stelab.binarizer import Binarizer
from stelab.engine.errors import InputError
from stelab.engine.studies import Run
from stelab.engine.studies.curves import read_curves
from stelab.estimators import ARM, DisARM, Estimator, Identity, LeaveOneOut, Reinforce
from stelab.estimators.baselines import NoBaseline
from stelab.lab.data.datamodule import Batch
from stelab.lab.gradients.variance import Moments, Shadow
from stelab.lab.models import Network
from stelab.lab.tasks import Task
from stelab.lab.training.module import TaskModule
from stelab.philox import Philox
from stelab.thresholds import FixedThreshold

LOGITS = torch.tensor([-1.0, 0.3, 2.0])
P = torch.sigmoid(LOGITS)
EXAMPLES = 256


def f(b: Tensor) -> Tensor:
    """A cubic loss of three bits."""
    return 2 * b[:, 0] - b[:, 1] * b[:, 2] + 3 * b.prod(1) + 0.5


class Rows(Network):
    """The weights of example i are its logits: a gradient of its own, alike for all."""

    def __init__(self, estimator: Estimator):
        super().__init__()
        self.encoder = nn.Linear(EXAMPLES, len(LOGITS), bias=False)
        self.encoder.weight.data.copy_(LOGITS[:, None].expand(-1, EXAMPLES))
        self.binarizer = Binarizer(threshold=FixedThreshold(value=0.0), estimator=estimator)

    def decode(self, code: Tensor) -> Tensor:
        return code


class Cubic(Task):
    def losses(self, output: Tensor, batch: Batch) -> Tensor:
        return f(output)

    def metrics(self, output: Tensor, batch: Batch, losses: Tensor) -> dict[str, Tensor]:
        return {}


def every_code() -> Iterator[tuple[Tensor, float]]:
    for bits in itertools.product([0.0, 1.0], repeat=len(P)):
        b = torch.tensor([bits])
        yield b, torch.where(b > 0, P, 1 - P).prod().item()


def every_antithetic_pair() -> Iterator[tuple[Tensor, Tensor, float]]:
    """Of each bit, u is below the rarer value's probability, above 1 less that, or between."""
    rare = torch.minimum(P, 1 - P)
    for third in itertools.product(range(3), repeat=len(P)):
        at = torch.tensor([third])
        low, high = (P >= 0.5).float(), (P >= 0.5).float()
        b = torch.where(at == 0, 1.0, torch.where(at == 1, 0.0, low))
        twin = torch.where(at == 0, 0.0, torch.where(at == 1, 1.0, high))
        yield b, twin, torch.where(at < 2, rare, 1 - 2 * rare).prod().item()


def reinforce() -> Iterator[tuple[Tensor, float]]:
    for b, q in every_code():
        yield f(b) * (b - P), q


def loo() -> Iterator[tuple[Tensor, float]]:
    for (b, q), (c, r) in itertools.product(every_code(), repeat=2):
        yield (f(b) - f(c)) * (b - c) / 2, q * r


def disarm() -> Iterator[tuple[Tensor, float]]:
    for b, twin, q in every_antithetic_pair():
        yield (f(b) - f(twin)) * (b - twin) / 2 * torch.maximum(P, 1 - P), q


def variance(estimates: Callable[[], Iterator[tuple[Tensor, float]]]) -> float:
    """Return the mean of the bits' variances."""
    drawn = list(estimates())
    assert math.isclose(sum(q for _, q in drawn), 1, rel_tol=1e-5)
    mean = sum(q * g for g, q in drawn)
    return sum(q * (g - mean).square().mean().item() for g, q in drawn)


def followed(estimator: Estimator, steps: int, decay: float = 0.999) -> float:
    """Return the variance of one example's estimate, as it is after so many steps."""
    model, task = Rows(Identity()), Cubic(nn.Identity())
    module = TaskModule(model=model, task=task, optimizer={}, scheduler={}, seed=0)
    shadow = Shadow(module, estimator, decay=decay)
    batch = {"images": torch.eye(EXAMPLES)}
    for step in range(steps):
        shadow.moments.add(shadow.gradient(batch, Philox(0, step)))
    assert model.encoder.weight.grad is None
    return shadow.moments.variance().item() * EXAMPLES**2


@pytest.mark.parametrize("steps", [10, 400])
@pytest.mark.parametrize(
    ("estimator", "estimates"),
    [
        (Reinforce(baseline=NoBaseline()), reinforce),
        (LeaveOneOut(samples=2), loo),
        (DisARM(), disarm),
    ],
)
def test_it_is_the_enumerated_variance(
    estimator: Estimator, estimates: Callable[[], Iterator[tuple[Tensor, float]]], steps: int
) -> None:
    tolerance = {10: 0.1, 400: 0.02}[steps]
    assert followed(estimator, steps) == pytest.approx(variance(estimates), rel=tolerance)


def test_arm_has_more_than_disarm_which_integrates_its_uniform_out() -> None:
    assert followed(ARM(), 50) > 1.1 * followed(DisARM(), 50)


def test_what_is_not_drawn_has_none() -> None:
    assert followed(Identity(), 50) == pytest.approx(0, abs=1e-5)


def test_the_average_of_two_is_their_sample_variance() -> None:
    moments = Moments(2, decay=0.9)
    for x in ([1.0, 5.0], [4.0, 5.0]):
        moments.add(torch.tensor(x))
    assert moments.variance().item() == pytest.approx(9 / 2 / 2)


def test_older_vectors_weigh_less() -> None:
    decay, x = 0.5, [3.0, -1.0, 2.0, 7.0]
    moments = Moments(1, decay=decay)
    for value in x:
        moments.add(torch.tensor([value], dtype=torch.float64))
    w = torch.tensor([decay ** (len(x) - i) for i in range(1, len(x) + 1)])
    w, values = w / w.sum(), torch.tensor(x)
    expected = (w @ values.square() - (w @ values).square()) / (1 - w.square().sum())
    assert moments.variance().item() == pytest.approx(expected.item())


def test_a_layer_of_one_hots_has_no_bits() -> None:
    cfg = stelab.compose("task=elbo", "model=vae_categorical", "categorical=st")
    with pytest.raises(InputError, match="the layer has one-hots"):
        model, task = stelab.build(cfg.model), Cubic(nn.Identity())
        module = TaskModule(model=model, task=task, optimizer={}, scheduler={}, seed=0)
        Shadow(module, DisARM(), decay=0.9)


NAMES = ("arm", "loo", "disarm", "relax")
SMALL = ("estimator=relax", "model.norm=none", "model.bits=16", "trainer.max_epochs=2")
BASKET = ("callbacks=variance", "callbacks.variance.every_n_steps=2")


@pytest.fixture(scope="module")
def with_basket(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("outputs"), *SMALL, *BASKET)


def test_it_logs_the_basket(with_basket: Run) -> None:
    curves = read_curves(with_basket.folder / "metrics.csv", epochs=2)
    looks: dict[str, list[int]] = {}
    for events in (with_basket.folder / "tb").glob("events*"):
        board = EventAccumulator(str(events)).Reload()
        for tag in board.Tags()["scalars"]:
            looks.setdefault(tag, []).extend(event.step for event in board.Scalars(tag))
    for name in NAMES:
        tag = f"gradients/{name}/variance"
        assert looks[f"{tag}_step"] == [1, 3]
        assert all(0 < value < math.inf for value in curves[tag])


def test_it_does_not_touch_the_training(with_basket: Run, tmp_path: Path) -> None:
    alone = train(tmp_path, *SMALL)
    for name in ("train/loss", "val/loss", "test/mse", "code/mean", "estimator/saturation"):
        assert with_basket.metrics[name] == alone.metrics[name]
    ours, theirs = (
        torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)
        for run in (with_basket, alone)
    )
    for part in (lambda c: c["state_dict"], lambda c: c["variance"]["parameters"]):
        states = part(ours), part(theirs)
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_basket_learns_what_lowers_its_variance(with_basket: Run) -> None:
    content = torch.load(with_basket.folder / "checkpoints" / "last.ckpt", weights_only=True)
    (state,) = (s for key, s in content["callbacks"].items() if "GradientVariance" in key)
    learned = state["shadows"]["relax"]["estimator"]
    assert learned["net.layers.2.weight"].abs().sum() > 0  # which starts as 0
    trained = content["variance"]["parameters"]
    (of_training,) = (v for key, v in trained.items() if key.endswith("net.layers.2.weight"))
    assert not torch.equal(learned["net.layers.2.weight"], of_training)
