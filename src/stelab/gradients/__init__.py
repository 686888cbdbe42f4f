"""The laboratory: estimators measured against the exact gradient."""

from stelab.gradients.exact import Enumeration
from stelab.gradients.measure import Measurement, adapt, measure, references
from stelab.gradients.problems import Cubic, Linear, MLPLoss, Problem, Quadratic, Toy
from stelab.gradients.subcode import AutoencoderLoss, Subcode

__all__ = [
    "AutoencoderLoss",
    "Cubic",
    "Enumeration",
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
