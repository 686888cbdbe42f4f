"""Gradient estimators: what to put in the backward pass when the forward pass is a step."""

from stelab.estimators.base import Estimator, PerExampleLoss, step
from stelab.estimators.straight_through import HardtanhClip, Identity, ZeroGradient
from stelab.estimators.surrogates import (
    ApproxSign,
    ClippedInput,
    ClippedReLU,
    ReLU,
    SigmoidSlope,
    Surrogate,
    SwishSign,
    TanhSlope,
)

__all__ = [
    "ApproxSign",
    "ClippedInput",
    "ClippedReLU",
    "Estimator",
    "HardtanhClip",
    "Identity",
    "PerExampleLoss",
    "ReLU",
    "SigmoidSlope",
    "Surrogate",
    "SwishSign",
    "TanhSlope",
    "ZeroGradient",
    "step",
]
