r"""Where training ends: straight-through's wrong attractors, and polynomial programming.

The loss is the mean of :math:`|b - c|^q` with :math:`c = 0.45`, so that the right answer is 0.
Straight-through equates slopes at the two ends instead of values, and ends where
:math:`p\,(1-c)^{q-1} = (1-p)\,c^{q-1}`. The setting of polynomial programming is that of Liu et al.
(2023), arXiv:2304.08612; the numbers of `TABLE` were measured with an independent implementation.
"""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.optim import Adam

from stelab.estimators import (
    BernoulliStraightThrough,
    Estimator,
    GumbelStraightThrough,
    NoBaseline,
    Reinforce,
    ReinMax,
)

CENTRE, POWERS = 0.45, torch.tensor([1.5, 2.0, 3.0])
VARIABLES, BATCH, STEPS = 128, 64, 8000

ST = BernoulliStraightThrough(slope="sigmoid", temperature=1.0)


def expected_loss(p: Tensor) -> Tensor:
    """Of the three powers, one a row, for bits of probability p, averaged over variables."""
    at_0, at_1 = CENTRE ** POWERS[:, None], (1 - CENTRE) ** POWERS[:, None]
    return (at_0 + p * (at_1 - at_0)).mean(1)


def attractor() -> Tensor:
    near, far = CENTRE ** (POWERS - 1), (1 - CENTRE) ** (POWERS - 1)
    return near / (near + far)


def test_straight_through_converges_to_the_wrong_point() -> None:
    """With the mean of its estimate, by enumeration of one bit, a row for each value."""
    theta = nn.Parameter(torch.zeros(3))
    optimizer = Adam([theta], lr=2e-3)
    bits = torch.tensor([[0.0], [1.0]]).expand(2, 3)
    for _ in range(2000):
        p = torch.sigmoid(theta.detach())
        losses = (ST(theta.expand(2, 3), bits=bits) - CENTRE).abs() ** POWERS
        optimizer.zero_grad()
        (torch.stack([1 - p, p]) * losses).sum().backward()
        optimizer.step()
    p = torch.sigmoid(theta.detach())
    assert torch.allclose(p, attractor(), rtol=0, atol=5e-5)
    assert expected_loss(p[:, None])[1].item() == pytest.approx(0.2475, abs=5e-5)


def distances(bits: Tensor) -> Tensor:
    """The loss of each row: a third of the rows for each power."""
    gaps = (bits - CENTRE).abs().chunk(3)
    return torch.cat([gap**q for gap, q in zip(gaps, POWERS.tolist(), strict=True)]).mean(1)


def polynomial_programming(estimator: Estimator) -> list[float]:
    """The exact losses at the end; the powers share a batch, but no variable."""
    generator = Generator().manual_seed(0)
    theta = nn.Parameter(0.01 * (2 * torch.rand(2, 3, VARIABLES, generator=generator) - 1))
    optimizer = Adam([theta], lr=1e-3, fused=True)
    for _ in range(STEPS):
        s = (theta[0] - theta[1])[:, None].expand(3, BATCH, VARIABLES).flatten(0, 1)
        optimizer.zero_grad()
        estimator.loss(s, distances, generator=generator).backward()
        optimizer.step()
    return expected_loss(torch.sigmoid(theta[0] - theta[1]).detach()).tolist()


TABLE: list[tuple[Estimator, list[float]]] = [
    (ST, [0.3522, 0.2475, 0.1213]),
    (GumbelStraightThrough(temperature=0.1), [0.3364, 0.2202, 0.0946]),
    (ReinMax(temperature=1.0), [0.3053, 0.2037, 0.0915]),
    (Reinforce(baseline=NoBaseline()), [0.3508, 0.2475, 0.1234]),
]


@pytest.mark.parametrize(("estimator", "measured"), TABLE, ids=lambda v: repr(v)[:40])
def test_polynomial_programming(estimator: Estimator, measured: list[float]) -> None:
    noisy = isinstance(estimator, Reinforce)  # the others differ by rounding to four digits
    losses = polynomial_programming(estimator)
    assert losses == pytest.approx(measured, abs=1e-3 if noisy else 3e-4)
