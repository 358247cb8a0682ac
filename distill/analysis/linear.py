"""Linear classifiers on frozen features."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from distill.errors import RunFailed

_EPSILON = 1e-5
# Rows that are converted to float64 at once.
_BLOCK = 4096


def row_blocks(count: int, size: int = _BLOCK) -> Iterator[slice]:
    """Cuts range(count) into slices of at most `size`."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def check_finite(features: np.ndarray, of: str = "image") -> None:
    """Checks features, of which a classifier would otherwise make what looks like a score.

    Args:
      features: [N, D].
      of: what has a row, for the message.

    Raises:
      RunFailed: naming the first row that is not finite.
    """
    for rows in row_blocks(len(features)):
        sound = np.isfinite(features[rows]).all(axis=-1)
        if not sound.all():
            raise RunFailed(
                f"the features of {of} {rows.start + int(np.argmin(sound))} of {len(features)} "
                "are not finite; check the model"
            )


@dataclasses.dataclass(frozen=True)
class Standardisation:
    """Shifts and scales features to mean 0 and standard deviation 1 (+ 1e-5)."""

    mean: np.ndarray
    """[D] float64."""
    std: np.ndarray
    """[D] float64, not 0."""

    @classmethod
    def of(cls, features: np.ndarray) -> "Standardisation":
        """Of features [N, D] with N of at least 1."""
        found = FeatureMoments.of(features)
        return cls.of_moments(found.mean, found.squares / found.count)

    @classmethod
    def of_moments(cls, mean: np.ndarray, variance: np.ndarray) -> "Standardisation":
        """Of features with these means and variances, [D] float64 each."""
        return cls(mean, np.sqrt(variance) + _EPSILON)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Maps [N, D] to float64 [N, D]."""
        return (features - self.mean) / self.std


@dataclasses.dataclass(frozen=True)
class FeatureMoments:
    """Of N features of width D, each on its own; those of parts are added by `+`.

    Kept about the mean, as sums of squares would lose what varies beside what is the same.
    """

    count: int
    """N."""
    mean: np.ndarray
    """float64 [D]."""
    squares: np.ndarray
    """Σ (x − mean)², float64 [D]."""

    @classmethod
    def of(cls, features: np.ndarray) -> "FeatureMoments":
        """Of features [N, D] with N of at least 1."""
        mean = features.mean(axis=0, dtype=np.float64)
        squares = np.zeros_like(mean)
        for rows in row_blocks(len(features)):
            squares += np.sum((features[rows] - mean) ** 2, axis=0)
        return cls(len(features), mean, squares)

    def __add__(self, other: "FeatureMoments") -> "FeatureMoments":
        """Of the features of both."""
        count, apart = self.count + other.count, other.mean - self.mean
        between = self.count * other.count / count * apart**2
        return FeatureMoments(
            count,
            self.mean + apart * (other.count / count),
            self.squares + other.squares + between,
        )


@dataclasses.dataclass(frozen=True)
class LinearClassifier:
    """A score per class, linear in standardised features."""

    standardisation: Standardisation
    kernel: np.ndarray
    """[D, C] float64."""
    bias: np.ndarray
    """[C] float64."""

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Maps features [N, D] to float64 [N, C]."""
        return self.standardisation(features) @ self.kernel + self.bias

    def accuracy(self, features: np.ndarray, labels: np.ndarray) -> float:
        """The share of features [N, D] whose highest score is their label's, of [N].

        Args:
          features: at least one.
          labels: theirs, int.

        Raises:
          RunFailed: if a feature is not finite.
        """
        check_finite(features)
        correct = sum(
            np.count_nonzero(self.scores(features[rows]).argmax(axis=-1) == labels[rows])
            for rows in row_blocks(len(labels))
        )
        return float(correct / len(labels))
