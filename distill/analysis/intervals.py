"""How sure a share or a mean is: intervals that hold its true value in 95 of 100 samples."""

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
