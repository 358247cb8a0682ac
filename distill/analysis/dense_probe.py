"""Which class each patch shows, by ridge regression on frozen tokens.

The fit needs no token after it has been counted: the moments of tokens and class shares, of any
number of images, are all there is of them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np

from distill.analysis.linear import (
    LinearClassifier,
    Standardisation,
    check_finite,
    row_blocks,
)
from distill.errors import UserError

PENALTIES = (1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4)
"""Strongest first; beside features of variance 1."""


@dataclasses.dataclass(frozen=True)
class Moments:
    """Of N tokens of D features and their shares of C classes; those of parts are added by `+`.

    Kept about the mean: sums of squares would lose what varies beside what is the same.
    """

    count: int
    """N."""
    token: np.ndarray
    """Mean, float64 [D]."""
    share: np.ndarray
    """Mean, float64 [C]."""
    token_token: np.ndarray
    """Σ (x − mean)(x − mean)ᵀ, float64 [D, D]."""
    token_share: np.ndarray
    """Σ (x − mean)(y − mean)ᵀ, float64 [D, C]."""
    share_share: float
    """Σ ‖y − mean‖²."""

    @classmethod
    def none(cls, width: int, classes: int) -> Self:
        """Of no tokens."""
        return cls(
            0,
            np.zeros(width),
            np.zeros(classes),
            np.zeros((width, width)),
            np.zeros((width, classes)),
            0.0,
        )

    @classmethod
    def of(cls, tokens: np.ndarray, shares: np.ndarray) -> Self:
        """Of tokens and shares, a block of them in float64 at a time.

        Args:
          tokens: [N, D] of any float dtype.
          shares: [N, C], such as those of `distill.analysis.segmentation.patch_shares`; patches
            that are NaN do not count.

        Raises:
          RunFailed: if a token is not finite.
        """
        check_finite(tokens, "token")
        found = cls.none(tokens.shape[1], shares.shape[1])
        for rows in row_blocks(len(tokens)):
            known = ~np.isnan(shares[rows]).any(axis=1)
            if known.any():
                x, y = (part[rows][known].astype(np.float64) for part in (tokens, shares))
                found += cls._of_block(x, y)
        return found

    @classmethod
    def _of_block(cls, x: np.ndarray, y: np.ndarray) -> Self:
        token, share = x.mean(axis=0), y.mean(axis=0)
        x -= token
        y -= share
        return cls(len(x), token, share, x.T @ x, x.T @ y, float(np.sum(y**2)))

    def __add__(self, other: Self) -> Self:
        """Of the tokens of both."""
        count = self.count + other.count
        if not count:
            return self
        token, share = other.token - self.token, other.share - self.share
        # Of the two means about the common one.
        between = self.count * other.count / count
        return dataclasses.replace(
            self,
            count=count,
            token=self.token + token * (other.count / count),
            share=self.share + share * (other.count / count),
            token_token=self.token_token + other.token_token + between * np.outer(token, token),
            token_share=self.token_share + other.token_share + between * np.outer(token, share),
            share_share=self.share_share + other.share_share + between * float(share @ share),
        )

    def error(self, classifier: LinearClassifier) -> float:
        """Mean squared difference of scores and shares, summed over classes, of at least one."""
        kernel = classifier.kernel / classifier.standardisation.std[:, None]
        centred = (
            np.sum(kernel * (self.token_token @ kernel - 2 * self.token_share)) + self.share_share
        )
        offset = classifier.scores(self.token[None])[0] - self.share
        return float(centred / self.count + offset @ offset)


@dataclasses.dataclass(frozen=True)
class DenseProbe:
    """A fitted probe, and how its penalty was found."""

    classifier: LinearClassifier
    """Its scores estimate shares."""
    l2: float
    errors: dict[float, float]
    """Of each penalty, the mean squared error on what was held out."""


def fit_dense_probe(
    training: Moments, held_out: Moments, penalties: Sequence[float] = PENALTIES
) -> DenseProbe:
    """Fits to all tokens with the penalty that is best on those held out.

    Args:
      training: of the tokens that candidates are fitted to.
      held_out: of other images' tokens: those of one image are too much alike.
      penalties: candidates, each positive; of equally good ones the first is taken.

    Raises:
      UserError: if either is of no tokens.
    """
    for moments, name in ((training, "to fit to"), (held_out, "held out")):
        if not moments.count:
            raise UserError(
                f"there is no token {name}; expected images with labelled pixels, some of them "
                "held out to choose the penalty"
            )
    candidates = fit_ridges(training, penalties)
    errors = {l2: held_out.error(one) for l2, one in zip(penalties, candidates, strict=True)}
    l2 = min(penalties, key=errors.__getitem__)
    (classifier,) = fit_ridges(training + held_out, [l2])
    return DenseProbe(classifier, l2, errors)


def fit_ridges(moments: Moments, penalties: Sequence[float]) -> list[LinearClassifier]:
    """The linear maps that minimise mean ‖W·x + b − y‖² + l2·‖W‖² over W and b, for each l2.

    x are tokens standardised by their own mean and standard deviation (+ 1e-5), y their shares; b
    is not penalised. One eigendecomposition serves all penalties.

    Args:
      moments: of at least one token.
      penalties: each positive.
    """
    variances = np.diagonal(moments.token_token) / moments.count
    whitening = Standardisation.of_moments(moments.token, variances)
    scale = whitening.std[:, None]
    values, vectors = np.linalg.eigh(moments.token_token / moments.count / (scale * scale.T))
    target = vectors.T @ (moments.token_share / moments.count / scale)
    return [
        LinearClassifier(
            whitening,
            # Of features that others determine, rounding may leave less than 0.
            vectors @ (target / (np.maximum(values, 0) + l2)[:, None]),
            moments.share,
        )
        for l2 in penalties
    ]
