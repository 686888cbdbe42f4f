"""Conclusions from a study: groups of runs, intervals, differences to a baseline."""

from stelab.engine.comparison.compare import Comparison, compare
from stelab.engine.comparison.regression import Regression, against

__all__ = ["Comparison", "Regression", "against", "compare"]
