"""What is learnt of patches from their frozen tokens, image by image."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

import numpy as np

from distill.analysis import dense_probe, logistic
from distill.analysis.linear import LinearClassifier, Standardisation
from distill.errors import UserError
from distill.evaluate.neighbours import check_neighbours, neighbour_shares

Probe = Literal["ridge", "logistic", "neighbours"]
"""Ridge regression by moments, which looks at each token once; logistic regression; or a vote of
the most similar patches."""

# One image of so many is held out to choose the penalty; the second is the first of them.
_EVERY = 10


@dataclasses.dataclass(frozen=True)
class Learnt:
    """What a probe says of tokens."""

    scores: Callable[[np.ndarray], np.ndarray]
    """Maps tokens float32 [n, F] to [n, C] of any float dtype."""
    classifier: LinearClassifier | None
    """The same where it is linear."""
    l2: float | None
    """Where there is a penalty."""


class Learner(Protocol):
    """Is shown one image after another, and may be asked at any time for what it has learnt."""

    def add(self, tokens: np.ndarray, targets: np.ndarray) -> None:
        """The next image.

        Args:
          tokens: float32 [n, F].
          targets: float [n, C]; patches that are NaN do not count.
        """
        ...

    def learnt(self) -> Learnt:
        """Of all images so far.

        Raises:
          UserError: if they are too few.
        """
        ...


class RidgeLearner:
    """Ridge regression; of images that are shown, their moments alone are kept.

    Args:
      width: F.
      classes: C.
      l2: the penalty; None chooses it on a tenth of the images.
    """

    def __init__(self, width: int, classes: int, l2: float | None):
        self._training = self._held_out = dense_probe.Moments.none(width, classes)
        self._l2, self._count = l2, 0

    def add(self, tokens: np.ndarray, targets: np.ndarray) -> None:
        """The next image."""
        moments = dense_probe.Moments.of(tokens, targets)
        if self._l2 is None and self._count % _EVERY == 1:
            self._held_out += moments
        else:
            self._training += moments
        self._count += 1

    def learnt(self) -> Learnt:
        """Of all images so far."""
        if self._l2 is not None:
            if not self._training.count:
                raise UserError("there is no patch with a label to learn from")
            (classifier,) = dense_probe.fit_ridges(self._training, [self._l2])
            return linear(classifier, self._l2)
        found = dense_probe.fit_dense_probe(self._training, self._held_out)
        return linear(found.classifier, found.l2)


class _Kept:
    """Some patches of each image, drawn by its number.

    Args:
      most: of each image.
      seed: of what is drawn.
    """

    def __init__(self, most: int, seed: int):
        self.tokens: list[np.ndarray] = []
        self.targets: list[np.ndarray] = []
        self._most, self._seed, self._count = most, seed, 0

    def add(self, tokens: np.ndarray, targets: np.ndarray) -> None:
        known = np.flatnonzero(~np.isnan(targets).any(axis=1))
        if len(known) > self._most:
            rng = np.random.default_rng((self._seed, self._count))
            known = np.sort(rng.choice(known, self._most, replace=False))
        self.tokens.append(tokens[known])
        self.targets.append(targets[known])
        self._count += 1


class LogisticLearner:
    """Multinomial logistic regression on the patches' shares of classes.

    Args:
      width: F.
      classes: C.
      l2: the penalty; None chooses it on a tenth of the images.
      most: patches that are kept of each image.
      seed: of which those are.
    """

    def __init__(self, width: int, classes: int, l2: float | None, *, most: int, seed: int):
        self._width, self._classes, self._l2 = width, classes, l2
        self._kept = _Kept(most, seed)

    def add(self, tokens: np.ndarray, targets: np.ndarray) -> None:
        """The next image."""
        self._kept.add(tokens, targets)

    def learnt(self) -> Learnt:
        """Of all images so far."""
        images = range(len(self._kept.tokens))
        held_out = [n for n in images if n % _EVERY == 1]
        training = [n for n in images if n % _EVERY != 1]
        standardisation = self._standardisation()
        if self._l2 is None:
            found = logistic.fit_logistic_probe(
                lambda: self._parts(training),
                lambda: self._parts(held_out),
                standardisation,
                self._classes,
            )
            return linear(found.classifier, found.l2)
        zeros = np.zeros((self._width, self._classes)), np.zeros(self._classes)
        start = LinearClassifier(standardisation, *zeros)
        classifier = logistic.fit_logistic(lambda: self._parts(images), start, self._l2)
        return linear(classifier, self._l2)

    def _parts(self, images: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return ((self._kept.tokens[n], self._kept.targets[n]) for n in images)

    def _standardisation(self) -> Standardisation:
        moments = dense_probe.Moments.none(self._width, 0)
        for tokens in self._kept.tokens:
            moments += dense_probe.Moments.of(tokens, np.zeros((len(tokens), 0)))
        if not moments.count:
            raise UserError("there is no patch with a label to learn from")
        variances = np.diagonal(moments.token_token) / moments.count
        return Standardisation.of_moments(moments.token, variances)


class NeighbourLearner:
    """The mean of the targets of the k most similar patches; see `neighbour_shares`.

    Args:
      k: how many.
      most: patches that are kept of each image.
      seed: of which those are.
    """

    def __init__(self, k: int, *, most: int, seed: int):
        self._k, self._kept = k, _Kept(most, seed)

    def add(self, tokens: np.ndarray, targets: np.ndarray) -> None:
        """The next image."""
        self._kept.add(tokens, targets)

    def learnt(self) -> Learnt:
        """Of all images so far."""
        if not self._kept.tokens:
            raise UserError("there is no patch with a label to learn from")
        bank = np.concatenate(self._kept.tokens)
        targets = np.concatenate(self._kept.targets)
        check_neighbours(self._k, len(bank), "patches")
        return Learnt(lambda tokens: neighbour_shares(bank, targets, tokens, self._k), None, None)


def linear(classifier: LinearClassifier, l2: float | None) -> Learnt:
    """What a linear map says of tokens.

    Args:
      classifier: the map.
      l2: the penalty that it was found with, if any.
    """
    # As float32: a score for each patch and class of many images.
    std = classifier.standardisation.std
    kernel = classifier.kernel / std[:, None]
    bias = classifier.bias - classifier.standardisation.mean @ kernel
    kernel, bias = kernel.astype(np.float32), bias.astype(np.float32)
    return Learnt(lambda tokens: tokens @ kernel + bias, classifier, l2)
