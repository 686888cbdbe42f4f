"""Conclusions from a study: groups of runs, intervals, differences to a baseline."""

from stelab.comparison.compare import Comparison, compare
from stelab.comparison.regression import Regression, against

__all__ = ["Comparison", "Regression", "against", "compare"]
