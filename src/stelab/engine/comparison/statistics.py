"""Means, intervals, paired differences and corrected p values, by scipy and statsmodels.

References:
    [Student1908] "The Probable Error of a Mean", Biometrika 6(1).
    [Efron1987] B. Efron, "Better Bootstrap Confidence Intervals", JASA 82(397).
    [Holm1979] S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian
        Journal of Statistics 6(2).
    [Lakens2013] D. Lakens, "Calculating and Reporting Effect Sizes to Facilitate Cumulative
        Science", Frontiers in Psychology 4:863.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Interval = Literal["t", "bootstrap"]
Array = NDArray[np.float64]

# Bootstrap resamples; always the same ones, so that a table can be computed again.
RESAMPLES = 9999
# Pairs from which on a difference is tested: the spread of two is known by one number alone.
ENOUGH = 3
# Relative to the largest number that was subtracted or averaged: a smaller spread is not one.
ROUNDING = 1e-14


@dataclass(frozen=True)
class Summary:
    """A sample: size, mean, standard deviation (n - 1), interval of the mean; NaN if too small."""

    n: int
    mean: float = np.nan
    std: float = np.nan
    low: float = np.nan
    high: float = np.nan


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences with its interval, Cohen's d_z and a two-sided p.

    What there are too few pairs for is NaN: one has no interval, and fewer than `ENOUGH` neither
    effect size nor p, nor have pairs that all differ by the same amount.
    """

    pairs: int
    mean: float = np.nan
    low: float = np.nan
    high: float = np.nan
    effect_size: float = np.nan
    p: float = np.nan


def summarize(values: Array, *, confidence: float, interval: Interval) -> Summary:
    r"""Summarize a sample.

    The mean's interval is :math:`\bar v \pm t_{n-1} s / \sqrt n` [Student1908], or that of the
    bias-corrected and accelerated bootstrap [Efron1987].
    """
    if not len(values):
        return Summary(0)
    scale = np.max(np.abs(values))
    low, high = _interval(values, scale, confidence, interval)
    std = np.nan if len(values) < 2 else 0.0 if _is_constant(values, scale) else _std(values)
    return Summary(len(values), _mean(values), std, low, high)


def differ(values: Array, baseline: Array, *, confidence: float, interval: Interval) -> Difference:
    r"""Compare two samples pair by pair, in the same order of replicates.

    With :math:`\bar d` the mean of the differences and :math:`s_d` their standard deviation,
    :math:`d_z = \bar d / s_d` [Lakens2013], and p is that of the paired t test of
    :math:`t = \bar d \sqrt n / s_d`. For the bootstrap it is the share of the sign flips of
    :math:`d` with a mean as far from 0, so never below :math:`2^{1-n}`: five pairs have no p
    below 0.05.
    """
    differences = values - baseline
    pairs = len(differences)
    if pairs == 0:
        return Difference(0)
    scale = max(np.max(np.abs(values)), np.max(np.abs(baseline)))
    mean, (low, high) = _mean(differences), _interval(differences, scale, confidence, interval)
    if pairs < ENOUGH or _is_constant(differences, scale):
        return Difference(pairs, mean, low, high)
    if interval == "t":
        test = stats.ttest_rel(values, baseline)
    else:
        test = stats.permutation_test((differences,), np.mean, permutation_type="samples", rng=0)
    return Difference(pairs, mean, low, high, mean / _std(differences), float(test.pvalue))


def holm(p: Array) -> Array:
    """Correct p values for multiple tests [Holm1979]; NaN marks a missing test and stays NaN."""
    from statsmodels.stats.multitest import multipletests

    corrected = np.full_like(p, np.nan)
    tested = ~np.isnan(p)
    if tested.any():
        corrected[tested] = multipletests(p[tested], method="holm")[1]
    return corrected


def _mean(values: Array) -> float:
    """Compute the mean, which rounding must not carry beyond the values."""
    return float(np.clip(np.mean(values), np.min(values), np.max(values)))


def _std(values: Array) -> float:
    return float(np.std(values, ddof=1))


def _is_constant(values: Array, scale: float) -> bool:
    """Whether values differ by no more than the rounding of numbers as large as `scale`."""
    return bool(np.ptp(values) <= ROUNDING * scale)


def _interval(
    values: Array, scale: float, confidence: float, interval: Interval
) -> tuple[float, float]:
    if len(values) < 2:
        return np.nan, np.nan
    if _is_constant(values, scale):
        return float(np.min(values)), float(np.max(values))
    if interval == "t":
        ends = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    else:
        ends = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=confidence,
            method="BCa",
            rng=np.random.default_rng(0),
        ).confidence_interval
    return float(ends.low), float(ends.high)
