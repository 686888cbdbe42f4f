"""Means, intervals, tests and corrections against published numbers and other libraries."""

from __future__ import annotations

import itertools
from dataclasses import astuple

import numpy as np
import pingouin
import pytest
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from stelab.engine.comparison.statistics import (
    Array,
    Interval,
    differ,
    holm,
    summarize,
)

INTERVALS: tuple[Interval, ...] = ("t", "bootstrap")
# Hours of sleep that ten patients gained by two drugs (Cushny & Peebles 1905; Student 1908).
SLEEP = (
    np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]),
    np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]),
)


def pairs_of(seed: int) -> tuple[Array, Array]:
    """Return two samples of 2 to 12 losses that go together."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 13))
    shared, scale = rng.normal(0, 1, n), 10.0 ** rng.integers(-6, 4)
    return scale * (3 + shared + rng.normal(0, 0.3, n)), scale * (3 + shared)


def test_students_sleep() -> None:
    """As R prints: t.test(extra ~ group, data = sleep, paired = TRUE)."""
    d = differ(*SLEEP, confidence=0.95, interval="t")
    assert d.pairs == 10
    assert d.mean == pytest.approx(-1.58, abs=1e-12)
    assert (d.low, d.high) == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)
    assert d.p == pytest.approx(0.002833, abs=5e-7)
    assert d.effect_size * np.sqrt(10) == pytest.approx(-4.0621, abs=5e-5)  # it is t
    first = summarize(SLEEP[0], confidence=0.95, interval="t")
    assert first.n == 10
    assert (first.mean, first.std) == pytest.approx((0.75, 1.789010), abs=5e-7)


def test_the_permutations_of_students_sleep() -> None:
    """One patient gained as much by both: of 512 signs of the others two are as extreme."""
    d = differ(*SLEEP, confidence=0.95, interval="bootstrap")
    assert d.p == 2 / 512


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("seed", range(20))
def test_students_numbers_are_those_of_other_libraries(seed: int, confidence: float) -> None:
    values, baseline = pairs_of(seed)
    s = summarize(values, confidence=confidence, interval="t")
    theirs = DescrStatsW(values)
    assert (s.n, s.mean) == pytest.approx((theirs.nobs, theirs.mean), rel=1e-9)
    assert s.std == pytest.approx(np.sqrt(theirs.var_ddof(1)), rel=1e-9)
    assert (s.low, s.high) == pytest.approx(theirs.tconfint_mean(1 - confidence), rel=1e-9)

    d = differ(values, baseline, confidence=confidence, interval="t")
    theirs = DescrStatsW(values - baseline)
    assert (d.pairs, d.mean) == pytest.approx((theirs.nobs, theirs.mean), rel=1e-9)
    assert (d.low, d.high) == pytest.approx(theirs.tconfint_mean(1 - confidence), rel=1e-9)
    assert d.p == pytest.approx(theirs.ttest_mean(0)[1], rel=1e-9)
    table = pingouin.ttest(values, baseline, paired=True, confidence=confidence).iloc[0]
    (interval,) = (table[name] for name in table.index if name.startswith("CI"))
    (p,) = (table[name] for name in table.index if name.endswith("val"))
    if confidence != 0.95:  # these it rounds
        assert (d.low, d.high) == pytest.approx(tuple(interval), rel=1e-9)
    assert d.p == pytest.approx(p, rel=1e-9)
    d_z = pingouin.compute_effsize(values - baseline, 0.0, eftype="cohen")
    assert d.effect_size == pytest.approx(d_z, rel=1e-9)


def test_pairing_is_what_makes_a_small_difference_real() -> None:
    values, baseline = pairs_of(3)
    together = differ(values, baseline, confidence=0.95, interval="t")
    apart = CompareMeans(DescrStatsW(values), DescrStatsW(baseline)).tconfint_diff(0.05)
    assert together.high - together.low < 0.5 * (apart[1] - apart[0])


@pytest.mark.parametrize("seed", range(10))
def test_holm_is_pingouins(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.beta(0.3, 1, int(rng.integers(1, 40)))
    p[rng.random(len(p)) < 0.2] = 0.05  # ties
    p[rng.random(len(p)) < 0.2] = np.nan  # no tests
    before = p.copy()
    corrected = holm(p)
    np.testing.assert_array_equal(p, before)
    np.testing.assert_array_equal(np.isnan(corrected), np.isnan(p))
    if not np.isnan(p).all():
        np.testing.assert_allclose(corrected, pingouin.multicomp(p, method="holm")[1], rtol=1e-9)


def test_holm_by_hand() -> None:
    nan = np.nan
    np.testing.assert_allclose(holm(np.array([0.01, nan, 0.04, 0.03])), [0.03, nan, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.04])), [0.04])
    np.testing.assert_allclose(holm(np.array([0.6, 0.7])), [1, 1])
    np.testing.assert_array_equal(holm(np.array([nan, nan])), [nan, nan])
    assert len(holm(np.array([]))) == 0


@pytest.mark.parametrize("seed", range(6))
def test_the_bootstrap_is_pingouins_but_for_chance(seed: int) -> None:
    values, baseline = pairs_of(seed)
    low, high = pingouin.compute_bootci(
        values - baseline, func="mean", method="bca", n_boot=20_000, seed=1, decimals=12
    )
    d = differ(values, baseline, confidence=0.95, interval="bootstrap")
    width = np.ptp(values - baseline)
    assert (d.low, d.high) == pytest.approx((low, high), abs=0.1 * width)
    assert d.low <= d.mean <= d.high
    assert np.min(values - baseline) <= d.low <= d.high <= np.max(values - baseline)


@pytest.mark.parametrize("seed", range(6))
def test_the_permutation_test_counts_all_signs(seed: int) -> None:
    values, baseline = pairs_of(seed)
    differences = values - baseline
    signs = np.array([*itertools.product([1, -1], repeat=len(differences))])
    means = np.abs(signs @ differences)
    extreme = np.mean(means >= abs(differences.sum()) * (1 - 1e-9))
    d = differ(values, baseline, confidence=0.95, interval="bootstrap")
    assert d.p == pytest.approx(extreme, rel=1e-9)


@pytest.mark.parametrize("interval", INTERVALS)
def test_the_same_numbers_every_time(interval: Interval) -> None:
    rng = np.random.default_rng(5)
    values, baseline = rng.normal(0, 1, 40), rng.normal(0, 1, 40)  # too many signs for all
    first = differ(values, baseline, confidence=0.9, interval=interval)
    np.random.default_rng().random()
    assert differ(values, baseline, confidence=0.9, interval=interval) == first
    assert 0 < first.p <= 1
    once = summarize(values, confidence=0.9, interval=interval)
    assert summarize(values, confidence=0.9, interval=interval) == once


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("seed", range(8))
def test_the_other_way_round(interval: Interval, seed: int) -> None:
    values, baseline = pairs_of(seed)
    one = differ(values, baseline, confidence=0.95, interval=interval)
    other = differ(baseline, values, confidence=0.95, interval=interval)
    assert (one.mean, one.p, one.effect_size) == pytest.approx(
        (-other.mean, other.p, -other.effect_size), rel=1e-9
    )
    tolerance = 1e-9 if interval == "t" else 0.1 * np.ptp(values - baseline)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), rel=1e-9, abs=tolerance)


@pytest.mark.parametrize("interval", INTERVALS)
def test_intervals_cover(interval: Interval) -> None:
    """Of 300 samples of 20, about as many as promised have the true mean in their interval."""
    rng = np.random.default_rng(11)
    found = [summarize(rng.normal(1, 1, 20), confidence=0.8, interval=interval) for _ in range(300)]
    covered = np.mean([s.low <= 1 <= s.high for s in found])
    assert 0.72 <= covered <= 0.87


@pytest.mark.parametrize("interval", INTERVALS)
class TestFew:
    """Where there is little or no spread; warnings are errors."""

    def test_one(self, interval: Interval) -> None:
        s = summarize(np.array([0.3]), confidence=0.95, interval=interval)
        assert (s.n, s.mean) == (1, 0.3)
        assert np.isnan(astuple(s)[2:]).all()
        d = differ(np.array([0.3]), np.array([0.1]), confidence=0.95, interval=interval)
        assert (d.pairs, d.mean) == (1, 0.3 - 0.1)
        assert np.isnan(astuple(d)[2:]).all()

    def test_none(self, interval: Interval) -> None:
        empty = np.array([])
        d = differ(empty, empty, confidence=0.95, interval=interval)
        assert d.pairs == 0 and np.isnan(astuple(d)[1:]).all()

    def test_two(self, interval: Interval) -> None:
        s = summarize(np.array([1.0, 2.0]), confidence=0.95, interval=interval)
        assert (s.n, s.mean, s.std) == (2, 1.5, np.sqrt(0.5))
        assert s.low < 1.5 < s.high
        d = differ(np.array([1.0, 2.0]), np.array([2.0, 4.0]), confidence=0.95, interval=interval)
        assert d.mean == -1.5
        assert d.low < -1.5 < d.high
        assert np.isnan([d.effect_size, d.p]).all()  # of three there is one

    def test_three(self, interval: Interval) -> None:
        values, baseline = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 4.0])
        d = differ(values, baseline, confidence=0.95, interval=interval)
        assert d.p == pytest.approx(0.0571909584 if interval == "t" else 0.25)

    @pytest.mark.parametrize("value", [0.1, 0.7, 1e-9, 0.0, -3.3, 12345.678])
    def test_all_equal(self, interval: Interval, value: float) -> None:
        for n in range(2, 12):
            s = summarize(np.full(n, value), confidence=0.95, interval=interval)
            assert astuple(s) == (n, value, 0, value, value)
            d = differ(np.full(n, value), np.full(n, value), confidence=0.95, interval=interval)
            assert astuple(d)[:4] == (n, 0, 0, 0)
            assert np.isnan([d.effect_size, d.p]).all()

    def test_a_constant_difference_is_no_test(self, interval: Interval) -> None:
        values, baseline = np.array([0.3, 0.4, 0.5]), np.array([0.1, 0.2, 0.3])
        assert np.ptp(values - baseline) > 0  # by rounding alone
        d = differ(values, baseline, confidence=0.95, interval=interval)
        assert (d.mean, d.low, d.high) == pytest.approx((0.2, 0.2, 0.2), rel=1e-14)
        assert d.low <= d.mean <= d.high
        assert np.isnan([d.effect_size, d.p]).all()

    def test_rounding_is_no_difference(self, interval: Interval) -> None:
        values, baseline = np.array([0.3, 0.1 + 0.2, 0.4]), np.array([0.3, 0.3, 0.4])
        assert values[1] != baseline[1]
        d = differ(values, baseline, confidence=0.95, interval=interval)
        assert d.low <= 0 <= d.high
        assert np.isnan(d.p)

    @pytest.mark.parametrize("seed", range(40))
    def test_small_samples_with_ties(self, interval: Interval, seed: int) -> None:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 6))
        values = np.round(rng.normal(0.0183, 1e-4, n), int(rng.integers(4, 7)))
        s = summarize(values, confidence=0.95, interval=interval)
        assert s.low <= s.mean <= s.high
        d = differ(values, np.full(n, 0.0183), confidence=0.95, interval=interval)
        assert d.low <= d.mean <= d.high
        assert np.isnan(d.p) or 0 < d.p <= 1
