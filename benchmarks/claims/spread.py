"""Means over seeds, and whether a difference between settings is more than that of seeds."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

# Student's t that 95% lie below, by degrees of freedom.
_T95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833)


def told(values: ArrayLike, digits: int = 1, times: float = 100) -> str:
    """Mean ± standard deviation, as `93.1 ± 0.4`."""
    scaled = times * np.asarray(values, float)
    return f"{scaled.mean():.{digits}f} ± {_deviation(scaled):.{digits}f}"


class Difference(NamedTuple):
    """Of two settings, seed by seed."""

    mean: float
    """Of the first less the second."""
    error: float
    """Standard error of the mean."""
    seeds: int

    @property
    def surely_more(self) -> bool:
        """Whether the first is the larger: one-sided t-test of paired seeds at 5%."""
        return self.mean > _t95(self.seeds) * self.error

    @property
    def surely_less(self) -> bool:
        """Whether the first is the smaller, likewise."""
        return -self.mean > _t95(self.seeds) * self.error

    def surely_below(self, margin: float) -> bool:
        """Whether the first is larger by less than a margin, if at all: such a test, too."""
        return self.mean + _t95(self.seeds) * self.error < margin

    def surely_within(self, margin: float) -> bool:
        """Whether they differ by less than a margin: two such tests (equivalence, TOST)."""
        return self.surely_below(margin) and self._replace(mean=-self.mean).surely_below(margin)

    def told(self, digits: int = 1, times: float = 100) -> str:
        """Such as `+1.2 ± 0.3`, with the standard error."""
        return f"{times * self.mean:+.{digits}f} ± {times * self.error:.{digits}f}"


def difference(first: ArrayLike, second: ArrayLike) -> Difference:
    """Of the same seeds in the same order.

    Raises:
      ValueError: of fewer than two seeds, or of others.
    """
    one, other = np.asarray(first, float), np.asarray(second, float)
    if len(one) != len(other) or len(one) < 2:
        raise ValueError(f"expected two or more paired seeds, not {len(one)} and {len(other)}")
    each = one - other
    return Difference(float(each.mean()), _deviation(each) / math.sqrt(len(each)), len(each))


def _deviation(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _t95(seeds: int) -> float:
    return _T95[min(seeds - 1, len(_T95)) - 1]
