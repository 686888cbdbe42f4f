"""Gradient estimators: what to put in the backward pass when the forward pass is a step."""

from stelab.estimators.base import Estimator, PerExampleLoss, step
from stelab.estimators.straight_through import HardtanhClip, Identity, ZeroGradient

__all__ = ["Estimator", "HardtanhClip", "Identity", "PerExampleLoss", "ZeroGradient", "step"]
