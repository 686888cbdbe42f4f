"""Thresholds: where the step sits."""

from stelab.thresholds.annealed import AnnealedThreshold
from stelab.thresholds.base import Threshold
from stelab.thresholds.fixed import FixedThreshold
from stelab.thresholds.learned import LearnedThreshold
from stelab.thresholds.quantile import BatchQuantileThreshold, RunningQuantileThreshold

__all__ = [
    "AnnealedThreshold",
    "BatchQuantileThreshold",
    "FixedThreshold",
    "LearnedThreshold",
    "RunningQuantileThreshold",
    "Threshold",
]
