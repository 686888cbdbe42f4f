"""Means, intervals, paired differences and corrected p values, by scipy and statsmodels.

References:
    [Student1908] "The Probable Error of a Mean", Biometrika 6(1).
    [Efron1987] B. Efron, "Better Bootstrap Confidence Intervals", JASA 82(397).
    [Holm1979] S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian
        Journal of Statistics 6(2).
    [Lakens2013] D. Lakens, "Calculating and Reporting Effect Sizes to Facilitate Cumulative
        Science", Frontiers in Psychology 4:863.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Interval = Literal["t", "bootstrap"]
Array = NDArray[np.float64]

RESAMPLES = 9999
"""Bootstrap resamples; always the same ones, so that a table can be computed again."""

ENOUGH = 3
"""Pairs from which on a difference is tested: of two, its spread is known by one number alone."""

ROUNDING = 1e-14
"""Of the largest number that was subtracted or averaged: a smaller spread is not one."""


@dataclass(frozen=True)
class Summary:
    """A sample: `n` values, their mean, standard deviation (n - 1) and the mean's interval.

    With one value there is neither spread nor interval: they are NaN.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Paired differences: how many, their mean and its interval, effect size and p.

    Attributes:
        pairs: How many replicates both have.
        mean: Mean of the differences; NaN without pairs.
        low: Lower end of its interval; NaN with one pair.
        high: Upper end.
        effect_size: Cohen's d_z: the mean over the standard deviation of the differences. NaN
            where that is 0, and below `ENOUGH` pairs.
        p: Two-sided p value of no difference: of the paired t test, or for the bootstrap of the
            sign-flip permutation test. NaN where all differences are equal, and below `ENOUGH`
            pairs.
    """

    pairs: int
    mean: float
    low: float
    high: float
    effect_size: float
    p: float


NO_SUMMARY = Summary(0, np.nan, np.nan, np.nan, np.nan)
NO_DIFFERENCE = Difference(0, np.nan, np.nan, np.nan, np.nan, np.nan)


def summarize(values: Array, *, confidence: float, interval: Interval) -> Summary:
    r"""Summarize a sample.

    The mean's interval is :math:`\bar v \pm t_{n-1} s / \sqrt n` [Student1908], or that of the
    bias-corrected and accelerated bootstrap [Efron1987].

    Args:
        values: Shape ``(n,)``, n at least 1.
        confidence: Of the interval, e.g. 0.95.
        interval: ``"t"``: Student's; ``"bootstrap"``: bias-corrected and accelerated.
    """
    scale = np.max(np.abs(values))
    low, high = _interval(values, scale, confidence, interval)
    std = np.nan if len(values) < 2 else 0.0 if _is_constant(values, scale) else _std(values)
    return Summary(len(values), _mean(values), std, low, high)


def differ(values: Array, baseline: Array, *, confidence: float, interval: Interval) -> Difference:
    r"""Compare two samples pair by pair: what `Difference` says of :math:`d_i = v_i - b_i`.

    With :math:`\bar d` their mean and :math:`s_d` their standard deviation,
    :math:`d_z = \bar d / s_d` [Lakens2013], and p is that of the paired t test of
    :math:`t = \bar d \sqrt n / s_d`. For the bootstrap it is the share of the sign flips of
    :math:`d` with a mean as far from 0, so never below :math:`2^{1-n}`: five pairs have no p
    below 0.05.

    Args:
        values: Shape ``(pairs,)``.
        baseline: Of the same shape, in the same order of replicates.
        confidence: Of the interval.
        interval: As in `summarize`.
    """
    differences = values - baseline
    pairs = len(differences)
    if pairs == 0:
        return NO_DIFFERENCE
    scale = max(np.max(np.abs(values)), np.max(np.abs(baseline)))
    mean, (low, high) = _mean(differences), _interval(differences, scale, confidence, interval)
    if pairs < ENOUGH or _is_constant(differences, scale):
        return Difference(pairs, mean, low, high, np.nan, np.nan)
    if interval == "t":
        p = stats.ttest_rel(values, baseline).pvalue
    else:
        p = stats.permutation_test(
            (values, baseline), _mean_difference, permutation_type="samples", rng=0
        ).pvalue
    return Difference(pairs, mean, low, high, mean / _std(differences), float(p))


def holm(p: Array) -> Array:
    """Correct p values for multiple tests [Holm1979]; NaN marks a missing test and stays NaN."""
    from statsmodels.stats.multitest import multipletests

    corrected = np.full_like(p, np.nan)
    tested = ~np.isnan(p)
    if tested.any():
        corrected[tested] = multipletests(p[tested], method="holm")[1]
    return corrected


def _mean_difference(a: Array, b: Array, axis: int = -1) -> Array:
    difference: Array = np.mean(a - b, axis=axis)
    return difference


def _mean(values: Array) -> float:
    """Return the mean, which rounding does not carry beyond the values."""
    return float(np.clip(np.mean(values), np.min(values), np.max(values)))


def _std(values: Array) -> float:
    return float(np.std(values, ddof=1))


def _is_constant(values: Array, scale: float) -> bool:
    """Tell whether values differ by no more than the rounding of numbers as large as `scale`."""
    return bool(np.ptp(values) <= ROUNDING * scale)


def _interval(
    values: Array, scale: float, confidence: float, interval: Interval
) -> tuple[float, float]:
    if len(values) < 2:
        return np.nan, np.nan
    if _is_constant(values, scale):
        return float(np.min(values)), float(np.max(values))
    if interval == "t":
        found = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
    else:
        found = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=confidence,
            method="BCa",
            rng=np.random.default_rng(0),
        ).confidence_interval
    return float(found.low), float(found.high)
