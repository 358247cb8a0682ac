"""Temperature scaling: logits divided by one number, fitted where the model is not scored.

Guo et al., arXiv 1706.04599, §4.2.
"""

import dataclasses
import zlib
from typing import Any, NamedTuple

import numpy as np

from distill.analysis.calibration import blocks, labelled
from distill.analysis.predictions import Predictions
from distill.errors import UserError

_STEPS = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Temperature:
    """What logits are divided by."""

    value: float
    count: int
    """Images it was fitted to."""
    nll_before: float
    """Mean cross-entropy of these images at temperature 1, in nats."""
    nll_after: float

    def apply(self, predictions: Predictions) -> Predictions:
        """Predictions whose logits, float64, are divided by the temperature."""
        logits = _logits(predictions)
        scaled = logits / self.value
        top = logits.argmax(axis=1)[:, None]
        assert (np.take_along_axis(scaled, top, 1)[:, 0] == scaled.max(axis=1)).all(), (
            "a temperature above 0 keeps the order of logits"
        )
        return dataclasses.replace(predictions, scores=scaled, scale="logits")

    def as_json(self) -> dict[str, Any]:
        """The fields."""
        return dataclasses.asdict(self)


def fit_temperature(predictions: Predictions) -> Temperature:
    """The temperature that minimises the cross-entropy of held-out images.

    The cross-entropy is convex in β = 1/T. Newton's method finds where its slope is 0, by halves
    wherever a step would leave the interval that holds the minimum. There is no randomness. Images
    without a label do not count; a probability of 0 counts as the least positive one of its dtype.

    Args:
      predictions: of images that are not scored afterwards.

    Raises:
      UserError: if no image has a label, or no positive temperature is best.
    """
    predictions = labelled(predictions)
    if _derivatives(predictions, 0.0).slope >= 0:
        raise UserError(
            f"the scores of {len(predictions)} images say nothing about their labels: the higher "
            "the temperature the better; check that the classes are in the order of the scores"
        )
    if (_margins(predictions) == 0).all():
        raise UserError(
            f"the labels of all {len(predictions)} images have the highest score, so that the "
            "lower the temperature the better; fit it to more images"
        )
    low, high = 0.0, 1.0
    while _derivatives(predictions, high).slope < 0:
        low, high = high, 2 * high
    beta = (low + high) / 2
    for _ in range(_STEPS):
        here = _derivatives(predictions, beta)
        low, high = (low, beta) if here.slope > 0 else (beta, high)
        step = beta - here.slope / here.curvature if here.curvature else low
        following = step if low < step < high else (low + high) / 2
        if abs(following - beta) <= 1e-14 * beta:
            break
        beta = following
    return Temperature(
        value=1 / beta,
        count=len(predictions),
        nll_before=_derivatives(predictions, 1.0).nll,
        nll_after=_derivatives(predictions, beta).nll,
    )


def held_out(names: np.ndarray, share: float) -> np.ndarray:
    """Chooses images to fit on by their names alone, so that order and company do not matter.

    Args:
      names: str [N].
      share: about how many, in [0, 1].

    Returns:
      bool [N].
    """
    drawn = [zlib.crc32(name.encode("utf-8", "surrogateescape")) for name in names.tolist()]
    return np.array(drawn, np.float64) < share * 2.0**32


class _Derivatives(NamedTuple):
    nll: float
    slope: float
    curvature: float


def _derivatives(predictions: Predictions, beta: float) -> _Derivatives:
    """The mean cross-entropy at logits times β, and its derivatives by β."""
    sums = np.zeros(3)
    for some in blocks(predictions):
        logits = _logits(some)
        # Relative to the highest, in whose place softmax has no overflow.
        logits -= logits.max(axis=1, keepdims=True)
        weights = np.exp(beta * logits)
        total = weights.sum(axis=1)
        mean = np.sum(weights * logits, axis=1) / total
        variance = np.sum(weights * (logits - mean[:, None]) ** 2, axis=1) / total
        label = logits[np.arange(len(some)), some.labels]
        sums += (
            np.sum(np.log(total) - beta * label),
            np.sum(mean - label),
            np.sum(variance),
        )
    return _Derivatives(*map(float, sums / len(predictions)))


def _margins(predictions: Predictions) -> np.ndarray:
    """The highest score − that of the label, [N]."""
    scores = predictions.scores
    return scores.max(axis=1) - scores[np.arange(len(scores)), predictions.labels]


def _logits(predictions: Predictions) -> np.ndarray:
    """float64 [N, C]; of probabilities their logarithms."""
    scores = predictions.scores
    if predictions.scale == "probabilities":
        return np.log(np.maximum(scores, np.finfo(scores.dtype).tiny).astype(np.float64))
    return scores.astype(np.float64)
