"""What a constructor's signature says of an object."""

from __future__ import annotations

import pytest
from torch import nn

from stelab import Binarizer
from stelab.categorical import ZGR
from stelab.estimators import (
    ARMS,
    EDE,
    BernoulliStraightThrough,
    GumbelStraightThrough,
    Identity,
    LearnedBaseline,
    Rebar,
    Reinforce,
)
from stelab.quantizers import FiniteScalarQuantizer
from stelab.thresholds import FixedThreshold, LearnedThreshold

ROUNDING = Binarizer(threshold=FixedThreshold(value=0), estimator=Identity())

SHOWN: list[tuple[nn.Module, str]] = [
    (Identity(), ""),
    (ARMS(samples=4), "samples=4"),
    (
        BernoulliStraightThrough(slope="identity", temperature=1),
        "slope='identity', temperature=1.0",
    ),
    (EDE(start=0.1, end=10, normalize_mass=True), "start=0.1, end=10.0, normalize_mass=True"),
    (GumbelStraightThrough(temperature=0.5), "temperature=0.5"),  # not what its base takes, too
    (ZGR(), ""),
    (Rebar(strength=1, temperature=0.5, learning_rate=0.01), "learning_rate=0.01"),  # others move
    (Reinforce(baseline=LearnedBaseline(bits=2, hidden=3, learning_rate=0.1)), ""),
    (LearnedBaseline(bits=2, hidden=3, learning_rate=0.1), "learning_rate=0.1"),
    (FixedThreshold(value=0.25), "value=0.25"),
    (LearnedThreshold(channels=3, init=0), "channels=3, dim=1"),
    (FiniteScalarQuantizer(binarizer=ROUNDING, levels=[8, 5]), "levels=(8, 5)"),
]


@pytest.mark.parametrize(("module", "shown"), SHOWN, ids=lambda v: str(v).partition("\n")[0])
def test_printed_modules_show_what_their_constructor_took(module: nn.Module, shown: str) -> None:
    assert module.extra_repr() == shown


@pytest.mark.parametrize("value", [10**400, -(10**400)], ids=["+", "-"])
def test_an_integer_that_no_float_holds_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match=r"^value must be a finite number, got -?1000"):
        FixedThreshold(value=value)
