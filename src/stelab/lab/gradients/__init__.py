"""The laboratory: estimators measured against the exact gradient."""

from stelab.lab.gradients.basket import GradientBasket
from stelab.lab.gradients.measure import Measurement, adapt, measure, references
from stelab.lab.gradients.problems import (
    Cubic,
    Enumeration,
    Linear,
    MLPLoss,
    Problem,
    Quadratic,
    Subcode,
    Toy,
    TrainedLoss,
)
from stelab.lab.gradients.variance import GradientVariance

__all__ = [
    "TrainedLoss",
    "Cubic",
    "Enumeration",
    "GradientBasket",
    "GradientVariance",
    "Linear",
    "MLPLoss",
    "Measurement",
    "Problem",
    "Quadratic",
    "Subcode",
    "Toy",
    "adapt",
    "measure",
    "references",
]
