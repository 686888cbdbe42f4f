"""Gradient estimators for one-hots drawn from a categorical law."""

from stelab.categorical.base import (
    CategoricalEstimator,
    Mixture,
    PerExampleLoss,
    Randomness,
    SoftmaxJacobians,
)
from stelab.categorical.gumbel import (
    AnnealedGumbelRao,
    GappedStraightThrough,
    GumbelRao,
    GumbelStraightThrough,
    conditional_gumbel,
)
from stelab.categorical.mve import MVE, AnnealedMVE
from stelab.categorical.reinmax import ZGR, ReinMax, ReinMaxCV, ReinMaxRao
from stelab.categorical.straight_through import StraightThrough

__all__ = [
    "MVE",
    "ZGR",
    "AnnealedGumbelRao",
    "AnnealedMVE",
    "CategoricalEstimator",
    "GappedStraightThrough",
    "GumbelRao",
    "GumbelStraightThrough",
    "Mixture",
    "PerExampleLoss",
    "Randomness",
    "ReinMax",
    "ReinMaxCV",
    "ReinMaxRao",
    "SoftmaxJacobians",
    "StraightThrough",
    "conditional_gumbel",
]
