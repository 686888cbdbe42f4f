"""Thresholds: where the step sits."""

from stelab.thresholds.base import Threshold
from stelab.thresholds.fixed import FixedThreshold
from stelab.thresholds.learned import LearnedThreshold

__all__ = ["FixedThreshold", "LearnedThreshold", "Threshold"]
