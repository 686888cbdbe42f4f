"""The one-hot layer inside other people's networks."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor, nn

from stelab import Categorizer
from stelab.categorical import GumbelStraightThrough, ReinMax, StraightThrough
from stelab.estimators import ReinMax as BinaryReinMax


def seeded() -> Generator:
    return torch.Generator().manual_seed(3)


def gradient(loss: Tensor, leaf: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, leaf)
    return found


def test_it_is_its_estimator() -> None:
    estimator = GumbelStraightThrough(temperature=0.7)
    layer = Categorizer(estimator=estimator)
    logits, w = torch.randn(5, 4, 3, requires_grad=True), torch.randn(4, 3)

    def f(sample: Tensor) -> Tensor:
        return (sample * w).sum((1, 2)).square()

    for mine, theirs in [
        (layer(logits, generator=seeded()), estimator(logits, generator=seeded())),
        (layer.loss(logits, f, generator=seeded()), estimator.loss(logits, f, generator=seeded())),
        (
            layer.losses(logits, f, generator=seeded()),
            estimator.losses(logits, f, generator=seeded()),
        ),
    ]:
        assert torch.equal(mine, theirs)
        g = torch.randn_like(mine)
        assert torch.equal(gradient((mine * g).sum(), logits), gradient((theirs * g).sum(), logits))
    assert layer.centre(logits) is logits
    with pytest.raises(ValueError, match="estimator must be of CategoricalEstimator"):
        Categorizer(estimator=BinaryReinMax(temperature=1.0))  # type: ignore[arg-type]


def test_loss_is_the_mean_of_the_losses() -> None:
    layer = Categorizer(estimator=StraightThrough(temperature=1.0))
    logits = torch.randn(6, 3, requires_grad=True)

    def f(sample: Tensor) -> Tensor:
        return (sample @ torch.tensor([1.0, -2.0, 0.5])).square()

    losses = layer.losses(logits, f, generator=seeded())
    assert losses.shape == (6,)
    loss = layer.loss(logits, f, generator=seeded())
    assert torch.equal(losses.mean(), loss)
    assert torch.equal(gradient(losses.mean(), logits), gradient(loss, logits))
    with pytest.raises(ValueError, match="one loss an example"):
        layer.losses(logits, torch.sum)


def test_the_generator_decides_the_one_hots_and_evaluation_takes_the_largest() -> None:
    layer = Categorizer(estimator=StraightThrough(temperature=1.0))
    logits = torch.randn(50, 2, 7)
    assert torch.equal(layer(logits, generator=seeded()), layer(logits, generator=seeded()))
    generator = seeded()
    assert not torch.equal(layer(logits, generator=generator), layer(logits, generator=generator))
    assert torch.equal(layer.eval()(logits).argmax(-1), logits.argmax(-1))


def test_two_classes_are_a_bit() -> None:
    """With logits (0, s) class 1 is the bit, and the rules are the same."""
    layer = Categorizer(estimator=ReinMax(temperature=1.3))
    s = torch.randn(40, 6, dtype=torch.float64, requires_grad=True)
    sample = layer(torch.stack([torch.zeros_like(s), s], -1), generator=seeded())
    bits = BinaryReinMax(temperature=1.3)(s, bits=sample[..., 1].detach())
    assert torch.equal(sample[..., 1], bits)
    g = torch.randn(40, 6, dtype=torch.float64)
    categorical, binary = gradient((sample[..., 1] * g).sum(), s), gradient((bits * g).sum(), s)
    assert torch.allclose(categorical, binary, rtol=0, atol=1e-14)


def test_it_trains_the_encoder_before_it() -> None:
    encoder, layer = nn.Linear(1, 4), Categorizer(estimator=ReinMax(temperature=1.0))
    optimizer = torch.optim.Adam(encoder.parameters(), lr=0.1)
    x, values = torch.linspace(-2, 2, 64).unsqueeze(1), torch.tensor([-2.0, -1.0, 1.0, 2.0])

    def f(sample: Tensor) -> Tensor:
        return (sample @ values - x.squeeze(1).sign()).square()

    for _ in range(60):
        optimizer.zero_grad()
        layer.loss(encoder(x), f).backward()
        optimizer.step()
    with torch.no_grad():
        assert layer.eval().loss(encoder(x), f) < 0.1
