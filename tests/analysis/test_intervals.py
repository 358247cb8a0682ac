"""Intervals of shares and means."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from distill.analysis.intervals import bootstrap_interval, ratio_interval, wilson_interval
from distill.errors import UserError


@pytest.mark.parametrize(
    ("correct", "total"), [(0, 1), (1, 1), (0, 50), (50, 50), (3, 7), (42_164, 46_837)]
)
@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_wilson_interval_is_scipys(correct, total, confidence):
    test = stats.binomtest(correct, total)
    expected = test.proportion_ci(confidence_level=confidence, method="wilson")
    found = wilson_interval(correct, total, confidence)
    np.testing.assert_allclose(found, (expected.low, expected.high), rtol=0, atol=1e-15)


def test_wilson_interval_of_a_textbook_case():
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I.
    found = wilson_interval(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


def test_nothing_right_and_all_right_begin_and_end_exactly():
    assert wilson_interval(0, 3).low == 0.0 and wilson_interval(0, 3).high > 0.5
    assert wilson_interval(3, 3).high == 1.0 and wilson_interval(3, 3).low < 0.5


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (2, 1), (-1, 3)])
def test_what_is_no_share_has_no_interval(correct, total):
    with pytest.raises(UserError, match=f"{correct} of {total} is no share"):
        wilson_interval(correct, total)


def _fieller(share, whole):
    """Both roots θ of (p − θq)² = (p − p's end)² + θ²(q − q's end)²."""
    p, q = share[0] / share[1], whole[0] / whole[1]
    (low, high), (whole_low, whole_high) = wilson_interval(*share), wilson_interval(*whole)

    def roots(end, whole_end):
        a, c = q**2 - (q - whole_end) ** 2, p**2 - (p - end) ** 2
        return sorted(np.roots([a, -2 * p * q, c]).real)

    below = [root for root in roots(low, whole_high) if -1e-12 <= root <= p / q + 1e-12]
    return max(below), max(roots(high, whole_low))


@pytest.mark.parametrize(
    ("share", "whole"),
    [
        ((40, 50), (45, 50)),
        ((0, 8), (8, 8)),
        ((8, 8), (8, 8)),
        ((3, 8), (1, 300)),
        ((1, 9), (9, 9)),
    ],
)
def test_interval_of_a_ratio_solves_its_equation(share, whole):
    found = ratio_interval(share, whole)
    np.testing.assert_allclose(found, _fieller(share, whole), rtol=1e-9, atol=1e-9)
    assert found.low <= share[0] / share[1] * whole[1] / whole[0] < found.high


def test_interval_of_a_ratio_is_sane_where_none_or_all_are_right():
    none, every = ratio_interval((0, 8), (8, 8)), ratio_interval((8, 8), (8, 8))
    assert none.low == 0 and 0.2 < none.high < 0.5
    assert every.low < 0.7 and every.high == pytest.approx(1 / every.low)
    with pytest.raises(UserError, match="0 is no share to form a ratio with"):
        ratio_interval((1, 8), (0, 8))


def test_interval_of_a_ratio_holds_it_in_95_of_100_samples():
    generator = np.random.default_rng(0)
    draws = generator.binomial(60, (0.9, 0.8), size=(2000, 2)).tolist()
    held = [
        low <= 0.9 / 0.8 <= high
        for one, other in draws
        for low, high in [ratio_interval((one, 60), (other, 60))]
    ]
    assert 0.93 < np.mean(held) < 0.97


def test_bootstrap_interval_nears_the_normal_one_of_many_values():
    values = np.random.default_rng(0).normal(3, 2, size=4000)
    half = 1.959964 * values.std() / math.sqrt(values.size)
    found = bootstrap_interval(values, seed=1)
    np.testing.assert_allclose(found, (values.mean() - half, values.mean() + half), atol=0.006)


def test_bootstrap_interval_of_two_values_is_known():
    # Means are 0, 1/2 and 1 in one, two and one of four samples.
    assert bootstrap_interval(np.array([0, 1])) == (0.0, 1.0)
    assert bootstrap_interval(np.array([0, 1]), confidence=float(Fraction(1, 3))) == (0.5, 0.5)


def test_bootstrap_interval_is_the_seeds():
    values = np.random.default_rng(0).uniform(size=50)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros((2, 2))])
def test_no_values_have_no_interval(values):
    with pytest.raises(UserError, match="have no mean"):
        bootstrap_interval(values)
