"""The scaling law of "Scaling Vision Transformers" (arXiv 2106.04560, §2.2), and its fit.

Error against compute saturates twice: at the error of a guess for little compute, and for much
compute at what neither a larger model nor a longer run would mend.
"""

import dataclasses
import itertools

import numpy as np
from scipy import optimize, stats

PARAMETERS = ("a", "b", "c", "d")

# Residuals beyond this many standard deviations count linearly, which costs 5% of the precision of
# least squares where noise is normal and saves the fit where a run went wrong (P. J. Huber,
# "Robust Estimation of a Location Parameter", 1964).
_HUBER = 1.345
# What a run's error is allowed to be off before the noise is known, as a natural logarithm.
_FIRST_SCALE = 0.1
_LARGEST_EXPONENT = 5.0
# How often errors that have nothing to do with compute may seem to fall with it.
_CHANCE = 0.05
_STARTS = 4


@dataclasses.dataclass(frozen=True)
class ScalingLaw:
    """E = a·(C + d)^−b + c, where C and d are in any unit of compute."""

    a: float
    b: float
    """The exponent: the slope on log-log axes between the two saturations."""
    c: float
    """The error that is left however much is computed."""
    d: float
    """The compute below which more of it hardly helps."""

    def predict(self, compute: np.typing.ArrayLike) -> np.ndarray:
        """The error at each compute.

        Raises:
          ValueError: for compute that is not finite and positive.
        """
        return self.a * (_positive("compute", compute) + self.d) ** -self.b + self.c


@dataclasses.dataclass(frozen=True)
class Fit:
    """A law, and the laws that other noise of the same kind would have led to."""

    law: ScalingLaw
    resampled: tuple[ScalingLaw, ...]
    """Fits to bootstrap samples."""
    confidence: float
    """Nominal coverage of the intervals."""
    points: int

    def intervals(self) -> dict[str, tuple[float, float]]:
        """The confidence interval of each parameter."""
        values = np.array([dataclasses.astuple(law) for law in self.resampled])
        return dict(zip(PARAMETERS, zip(*self._interval(values), strict=True), strict=True))

    def band(self, compute: np.typing.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end of the curve's confidence interval at each compute.

        Raises:
          ValueError: for compute that is not finite and positive.
        """
        low, high = self._interval(np.stack([law.predict(compute) for law in self.resampled]))
        return np.array(low), np.array(high)

    def _interval(self, samples: np.ndarray) -> tuple[list, list]:
        """Percentiles, as far out as Student's distribution is for so few points.

        Plain percentiles are too narrow (T. C. Hesterberg, "What Teachers Should Know about the
        Bootstrap", 2015, §3.3: expanded percentile intervals).
        """
        freedom = self.points - len(PARAMETERS)
        tail = stats.norm.cdf(stats.t.ppf((1 - self.confidence) / 2, freedom))
        low, high = np.quantile(samples, (tail, 1 - tail), axis=0)
        return low.tolist(), high.tolist()


def fit_law(
    compute: np.typing.ArrayLike,
    error: np.typing.ArrayLike,
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Fit:
    """Fits E = a·(C + d)^−b + c, a, b > 0 and c, d ≥ 0, to the logarithms of errors.

    On logarithms each error counts by its share that is not explained, as noise scales with the
    error and errors span orders of magnitude. Intervals are from a bootstrap of the residuals:
    they hold if these are alike at all points, and given the points, so they do not cover how a
    frontier was chosen.

    Args:
      compute: [N], in any unit.
      error: [N], any loss that is positive.
      resamples: of the bootstrap.
      seed: of the bootstrap.
      confidence: of the intervals, in (0, 1).

    Raises:
      ValueError: for fewer points than parameters plus one, anything not finite and positive,
        errors that do not fall with compute, or too few resamples for the confidence.
    """
    compute, error = _points(compute, error)
    if len(np.unique(compute)) <= len(PARAMETERS):
        raise ValueError(
            f"{len(np.unique(compute))} different values of compute are too few to fit "
            f"{len(PARAMETERS)} parameters; expected at least {len(PARAMETERS) + 1}"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    if resamples * (1 - confidence) < 2:
        raise ValueError(f"{resamples} resamples are too few for intervals of {confidence:.1%}")
    check_falling(compute, error)

    # Around 1, where the optimiser is at its best.
    unit, error_unit = np.exp(np.mean(np.log(compute))), np.exp(np.mean(np.log(error)))
    problem = _Problem(compute / unit, np.log(error / error_unit))
    best, scale = problem.fit()
    rng = np.random.default_rng(seed)
    fitted, residuals = problem.predict(best), problem.exchangeable_residuals(best)
    drawn = rng.choice(residuals, (resamples, len(residuals)))
    samples = [_Problem(problem.compute, fitted + noise).solve([best], scale) for noise in drawn]

    def law(theta: np.ndarray) -> ScalingLaw:
        log_a, b, c, d = theta
        # The optimiser nears a bound without touching it.
        c, d = (0.0 if value < 1e-9 else value for value in (c, d))
        a = np.exp(log_a) * error_unit * unit**b
        return ScalingLaw(*map(float, (a, b, c * error_unit, d * unit)))

    return Fit(law(best), tuple(map(law, samples)), confidence, len(compute))


def check_falling(compute: np.typing.ArrayLike, error: np.typing.ArrayLike) -> None:
    """Checks that errors fall with compute, however little, rather than by chance.

    By Kendall's rank correlation τ, which takes no law for granted and no run that went wrong for
    much: were compute of no use, one in twenty samples would pass (M. G. Kendall, "A New Measure
    of Rank Correlation", 1938).

    Args:
      compute: [N], in any unit.
      error: [N].

    Raises:
      ValueError: saying what was found, if they do not.
    """
    compute, error = _points(compute, error)
    least, most = np.argmin(compute), np.argmax(compute)
    if np.ptp(compute) == 0:
        found = f"all {len(error)} are at a compute of {compute[0]:.3g}"
    elif np.ptp(error) == 0:
        found = f"all {len(error)} are {error[0]:.3g}"
    else:
        statistic, chance = map(float, stats.kendalltau(compute, error, alternative="less"))
        if chance <= _CHANCE:
            return
        found = (
            f"they are {error[least]:.3g} at the least and {error[most]:.3g} at the most compute, "
            f"with a rank correlation (Kendall's τ) of {statistic:.2f}, which chance alone "
            f"gives {chance:.0%} of the time"
        )
    raise ValueError(
        f"errors do not fall with compute, so there is no law to fit: {found}. Measure more points "
        "over a wider range of compute, or on more images, and see whether the models learn at all"
    )


def pareto_frontier(compute: np.typing.ArrayLike, error: np.typing.ArrayLike) -> np.ndarray:
    """Which points no other beats: none has less of one and no more of the other, bool [N].

    Raises:
      ValueError: if the lengths differ or anything is not finite and positive.
    """
    compute, error = _points(compute, error)
    no_worse = (compute[:, None] <= compute) & (error[:, None] <= error)
    better = (compute[:, None] < compute) | (error[:, None] < error)
    return ~np.any(no_worse & better, axis=0)


@dataclasses.dataclass(frozen=True)
class _Problem:
    """Points to fit, in units that put them around 1; θ is (log a, b, c, d)."""

    compute: np.ndarray
    log_error: np.ndarray

    def predict(self, theta: np.ndarray) -> np.ndarray:
        """The law's log error at the points."""
        log_a, b, c, d = theta
        return np.log(np.exp(log_a) * (self.compute + d) ** -b + c)

    def fit(self) -> tuple[np.ndarray, float]:
        """The best θ, and the residual beyond which points count less."""
        first = self.solve(self._starts(), _FIRST_SCALE)
        freedom = 1 - len(PARAMETERS) / len(self.compute)
        deviations = np.abs(self.log_error - self.predict(first))
        # Of points that a law fits exactly, none is noise.
        noise = max(stats.norm.ppf(0.75) ** -1 * np.median(deviations) / freedom**0.5, 1e-6)
        return self.solve([first, *self._starts()], _HUBER * noise), _HUBER * noise

    def solve(self, starts: list[np.ndarray], scale: float) -> np.ndarray:
        """The best θ found from the starts."""
        found = [
            optimize.least_squares(
                lambda theta: self.predict(theta) - self.log_error,
                start,
                # SciPy annotates it as a text only.
                self._jacobian,  # pyright: ignore[reportArgumentType]
                bounds=self._bounds(),
                loss="huber",
                f_scale=scale,
                x_scale="jac",
            )
            for start in starts
        ]
        return min(found, key=lambda result: result.cost).x

    def exchangeable_residuals(self, theta: np.ndarray) -> np.ndarray:
        """The points' noise: residuals without what the fit has taken from them.

        A point that pulls the curve to itself has a small residual whatever its noise
        (A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application", 1997, §6.3).
        """
        jacobian = self._jacobian(theta)
        leverage = np.sum(jacobian * np.linalg.pinv(jacobian).T, axis=1)
        residuals = (self.log_error - self.predict(theta)) / np.sqrt(1 - leverage.clip(0, 0.95))
        return residuals - np.mean(residuals)

    def _starts(self) -> list[np.ndarray]:
        """The most promising points of a grid; a follows from the others."""
        grid = []
        for b, c, d in itertools.product((0.1, 0.3, 0.6, 1.2), (0.0, 0.5, 0.9), (0.0, 1.0)):
            c, d = c * np.exp(self.log_error.min()), d * self.compute.min()
            log_a = np.median(np.log(np.exp(self.log_error) - c) + b * np.log(self.compute + d))
            grid.append(np.array([log_a, b, c, d]))
        grid.sort(key=lambda theta: np.sum(np.abs(self.predict(theta) - self.log_error)))
        return grid[:_STARTS]

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        highest = [100.0, _LARGEST_EXPONENT, np.exp(self.log_error.max()), self.compute.max()]
        return np.array([-100.0, 1e-3, 0.0, 0.0]), np.array(highest)

    def _jacobian(self, theta: np.ndarray) -> np.ndarray:
        """Of `predict`, [N, 4]."""
        log_a, b, c, d = theta
        power = np.exp(log_a) * (self.compute + d) ** -b
        columns = power, -power * np.log(self.compute + d), 1.0, -b * power / (self.compute + d)
        return np.stack(np.broadcast_arrays(*columns), axis=1) / (power + c)[:, None]


def _points(compute, error) -> tuple[np.ndarray, np.ndarray]:
    compute, error = _positive("compute", compute), _positive("error", error)
    if compute.ndim != 1 or compute.shape != error.shape:
        raise ValueError(
            f"compute and error must be lists of one length, not of shapes {compute.shape} and "
            f"{error.shape}"
        )
    return compute, error


def _positive(name: str, values: np.typing.ArrayLike) -> np.ndarray:
    values = np.asarray(values, np.float64)
    bad = values[~(np.isfinite(values) & (values > 0))]
    if bad.size:
        raise ValueError(f"{name} must be finite and positive, not {bad[0]:g}")
    return values
