"""How sure a share, a ratio of two or a mean is.

An interval holds the true value in 95 of 100 samples.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from distill.errors import UserError

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """From `low` to `high`."""

    low: float
    high: float


def wilson_interval(correct: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """The score interval of a share, which stays in [0, 1] and is not empty at its ends.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    Raises:
      UserError: if there are no cases, or not as many of them as are correct.
    """
    if not 0 <= correct <= total or not total:
        raise UserError(f"{correct} of {total} is no share; expected at least one case")
    z2 = _quantile(confidence) ** 2
    middle = (correct + z2 / 2) / (total + z2)
    half = math.sqrt(z2 * (correct * (total - correct) / total + z2 / 4)) / (total + z2)
    # At the ends the two are equal, but for the last bits.
    low = max(0.0, middle - half) if correct else 0.0
    return Interval(low, min(1.0, middle + half) if correct < total else 1.0)


def ratio_interval(
    share: tuple[int, int], whole: tuple[int, int], confidence: float = CONFIDENCE
) -> Interval:
    """That of the ratio of two independent shares, made of their score intervals (MOVER-R).

    It begins at 0 where nothing is correct, and is not empty where all is. Donner and Zou 2012,
    "Closed-form confidence intervals for functions of the normal mean and standard deviation"; of
    score intervals it is recommended by Fagerland et al. 2015, "Recommended confidence
    intervals for two independent binomial proportions".

    Args:
      share: how many are correct, of how many.
      whole: the same of the share to compare with.
      confidence: how often it holds the true ratio.

    Raises:
      UserError: if one is no share, or none is correct of `whole`.
    """
    if not whole[0]:
        raise UserError("0 is no share to form a ratio with; expected at least one correct case")
    low, high = wilson_interval(*share, confidence)
    whole_low, whole_high = wilson_interval(*whole, confidence)
    over, under = share[0] / share[1], whole[0] / whole[1]
    middle = over * under
    # The roots in the form that stays exact where 2·under is the upper end.
    b, c = low * (2 * over - low), whole_high * (2 * under - whole_high)
    below = b / (middle + math.sqrt(max(0.0, middle**2 - b * c))) if b else 0.0
    b, c = high * (2 * over - high), whole_low * (2 * under - whole_low)
    return Interval(below, (middle + math.sqrt(max(0.0, middle**2 - b * c))) / c)


def bootstrap_interval(
    values: np.ndarray, *, seed: int = 0, resamples: int = 2000, confidence: float = CONFIDENCE
) -> Interval:
    """The percentile interval of a mean, from means of samples drawn with replacement.

    Efron 1979, "Bootstrap methods: another look at the jackknife".

    Args:
      values: finite [N].
      seed: of what is drawn; the same seed gives the same interval.
      resamples: how many samples of N are drawn.
      confidence: the share of their means that the interval holds.

    Raises:
      UserError: if there are no values.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size:
        raise UserError(f"values of the shape {values.shape} have no mean; expected at least one")
    generator = np.random.default_rng(seed)
    means = [
        values[generator.integers(values.size, size=values.size)].mean() for _ in range(resamples)
    ]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def _quantile(confidence: float) -> float:
    """How many standard deviations a normal variable stays within with this probability."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
