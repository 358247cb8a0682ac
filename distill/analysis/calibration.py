"""Calibration: how far probabilities are from how often what they are said of is so.

A probability p and its outcome, 0 or 1, are compared in bins of like p. Which probability that is
has two conventions, whose errors differ, so every result names its own:

- `top_label`: the probability of the class that is predicted; its outcome is whether the prediction
  is right (Guo et al., arXiv 1706.04599, §2).
- `positive_class`: of two classes, the probability of the positive one; its outcome is the target.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from distill.analysis.predictions import Predictions
from distill.errors import UserError

BINS = 15

Convention = Literal["top_label", "positive_class"]
Norm = Literal["l1", "l2"]

_ROWS = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReliabilityCurve:
    """Sums over bins of probabilities, which hold those from an edge up to below the next one.

    The last bin also holds its upper edge.
    """

    convention: Convention
    edges: np.ndarray
    """[B + 1], from 0 to 1."""
    count: np.ndarray
    """Examples in each bin, int64 [B]."""
    probability: np.ndarray
    """Σ of their probabilities, float64 [B]."""
    outcome: np.ndarray
    """Σ of their outcomes, float64 [B]."""

    def __add__(self, other: Self) -> Self:
        """The curve of the examples of both.

        Raises:
          ValueError: if their bins or conventions differ, as equal masses of different examples do.
        """
        if self.convention != other.convention or not np.array_equal(self.edges, other.edges):
            raise ValueError("only curves of one convention and of the same bins add up")
        return dataclasses.replace(
            self,
            count=self.count + other.count,
            probability=self.probability + other.probability,
            outcome=self.outcome + other.outcome,
        )

    def gaps(self) -> np.ndarray:
        """Mean outcome − mean probability of each bin, float64 [B]; 0 where a bin is empty."""
        return (self.outcome - self.probability) / np.maximum(self.count, 1)

    def error(self, norm: Norm = "l1") -> float | None:
        """The expected calibration error; None of no examples.

        Args:
          norm: `l1`, Σ n_b/N |gap_b|, or `l2`, the root of Σ n_b/N gap_b².
        """
        total = self.count.sum()
        if not total:
            return None
        power = 1 if norm == "l1" else 2
        return float((self.count @ np.abs(self.gaps()) ** power / total) ** (1 / power))

    def as_json(self) -> list[dict[str, Any]]:
        """A dict for each bin that is not empty."""
        return [
            {
                "from": float(self.edges[one]),
                "to": float(self.edges[one + 1]),
                "count": int(self.count[one]),
                "mean_probability": float(self.probability[one] / self.count[one]),
                "mean_outcome": float(self.outcome[one] / self.count[one]),
            }
            for one in np.flatnonzero(self.count)
        ]


def equal_width(
    probability: np.ndarray, outcome: np.ndarray, *, convention: Convention, bins: int = BINS
) -> ReliabilityCurve:
    """The curve over bins of equal width; those of parts of the examples add up to it.

    Args:
      probability: float [N] in [0, 1]. Edges are rounded to its dtype: what is an edge before
        rounding is one after it.
      outcome: [N] in [0, 1], as a rule 0 and 1.
      convention: what the two are of.
      bins: how many.

    Raises:
      UserError: for what is not finite or not in [0, 1].
    """
    return _curve(probability, outcome, convention, np.arange(bins + 1) / bins)


def equal_mass(
    probability: np.ndarray, outcome: np.ndarray, *, convention: Convention, bins: int = BINS
) -> ReliabilityCurve:
    """The curve over bins of as many examples each, as far as equal probabilities allow.

    The edges are the probabilities at the places round(k N / B) of their sorted list, and are one
    edge where they are equal, so that the order of the examples does not matter (adaptive bins:
    Nixon et al., arXiv 1904.01685).

    Raises:
      UserError: as `equal_width`, and of no examples.
    """
    values = np.sort(np.asarray(probability, np.float64))
    if not values.size:
        raise UserError("there are no probabilities to divide into bins")
    places = np.round(np.linspace(0, values.size, bins, endpoint=False)).astype(int)
    # The first bin may as well begin at 0; what is exactly 1 is often a bin of its own.
    starts = np.unique(np.r_[0.0, values[np.minimum(places[1:], values.size - 1)]])
    edges = np.r_[starts, 1.0]
    return _curve(np.asarray(probability, np.float64), outcome, convention, edges)


def _curve(
    probability: np.ndarray, outcome: np.ndarray, convention: Convention, edges: np.ndarray
) -> ReliabilityCurve:
    probability = np.asarray(probability)
    if not np.issubdtype(probability.dtype, np.floating):
        probability = probability.astype(np.float64)
    outcome = np.asarray(outcome, np.float64)
    for name, values in {"probability": probability, "outcome": outcome}.items():
        check_probabilities(values, name)
    if probability.shape != outcome.shape:
        raise UserError(
            f"there are {probability.size} probabilities and {outcome.size} outcomes; expected as "
            "many of both"
        )
    edges = edges.astype(probability.dtype)
    bins = len(edges) - 1
    place = np.searchsorted(edges[1:-1], probability, side="right")
    return ReliabilityCurve(
        convention=convention,
        edges=edges,
        count=np.bincount(place, minlength=bins),
        probability=np.bincount(place, probability, bins),
        outcome=np.bincount(place, outcome, bins),
    )


def check_probabilities(values: np.ndarray, name: str) -> None:
    """Checks that values are in [0, 1].

    Raises:
      UserError: that names the place of the first one that is not, counted from 0.
    """
    wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if wrong.size:
        raise UserError(f"{name} {wrong[0]} is {values[wrong[0]]:g}; expected numbers from 0 to 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """How well the probabilities of some examples are calibrated."""

    convention: Convention
    count: int
    """Examples that have a label."""
    accuracy: float
    nll: float | None
    """Mean of −log p of the label, in nats; None if a label has the probability 0."""
    brier: float
    """Mean of Σ_k (p_k − [k is the label])², over all classes and not divided by their number."""
    equal_width: ReliabilityCurve
    equal_mass: ReliabilityCurve

    def as_json(self) -> dict[str, Any]:
        """The figures, and the bins of the curve of equal widths."""
        return {
            "convention": self.convention,
            "count": self.count,
            "accuracy": self.accuracy,
            "bins": len(self.equal_width.count),
            "ece": self.equal_width.error(),
            "ece_l2": self.equal_width.error("l2"),
            "adaptive_ece": self.equal_mass.error(),
            "adaptive_ece_l2": self.equal_mass.error("l2"),
            "nll": self.nll,
            "brier": self.brier,
            "reliability": self.equal_width.as_json(),
        }


def top_label_calibration(predictions: Predictions, bins: int = BINS) -> Calibration:
    """Of a model's top class against the label; images without a label do not count.

    Of equal scores, the first class is the top one.

    Raises:
      UserError: if no image has a label.
    """
    parts = map(_scored, blocks(labelled(predictions)))
    confidence, correct, nll, brier = map(np.concatenate, zip(*parts, strict=True))
    return _calibration("top_label", confidence, correct, correct, nll, brier, bins)


def binary_calibration(
    probability: np.ndarray, target: np.ndarray, *, convention: Convention, bins: int = BINS
) -> Calibration:
    """Of the probability that a target is 1.

    Args:
      probability: float [N] in [0, 1]; from 0.5 on, 1 is predicted.
      target: [N], 0 or 1.
      convention: `top_label` bins max(p, 1 − p) and compares it with how often the prediction is
        right; `positive_class` bins p and compares it with how often the target is 1.
      bins: how many.

    Raises:
      UserError: for other values, and of no examples.
    """
    p, y = np.asarray(probability, np.float64), np.asarray(target, np.float64)
    check_probabilities(p, "probability")
    check_probabilities(y, "target")
    correct = (p >= 0.5) == (y == 1)
    with np.errstate(divide="ignore"):
        nll = -np.log(np.where(y == 1, p, 1 - p))
    both = (p, y) if convention == "positive_class" else (np.maximum(p, 1 - p), correct)
    return _calibration(convention, *both, correct, nll, 2 * (p - y) ** 2, bins)


def labelled(predictions: Predictions) -> Predictions:
    """Those of images that have a label.

    Raises:
      UserError: if there are none.
    """
    found = predictions.labels >= 0
    if not found.any():
        raise UserError(
            f"none of {len(predictions)} images has a label; calibration compares with labels"
        )
    return predictions if found.all() else predictions.where(found)


def blocks(predictions: Predictions) -> Iterator[Predictions]:
    """Some images at a time: float64 scores of all of them could fill the memory."""
    for start in range(0, len(predictions), _ROWS):
        yield predictions.where(np.arange(start, min(start + _ROWS, len(predictions))))


def _calibration(
    convention: Convention,
    probability: np.ndarray,
    outcome: np.ndarray,
    correct: np.ndarray,
    nll: np.ndarray,
    brier: np.ndarray,
    bins: int,
) -> Calibration:
    return Calibration(
        convention=convention,
        count=len(probability),
        accuracy=float(correct.mean()),
        nll=float(nll.mean()) if np.isfinite(nll).all() else None,
        brier=float(brier.mean()),
        equal_mass=equal_mass(probability, outcome, convention=convention, bins=bins),
        equal_width=equal_width(probability, outcome, convention=convention, bins=bins),
    )


class _Scored(NamedTuple):
    """What some images show, [n] each."""

    confidence: np.ndarray
    correct: np.ndarray
    nll: np.ndarray
    brier: np.ndarray


def _scored(predictions: Predictions) -> _Scored:
    p, rows = predictions.probabilities(), np.arange(len(predictions))
    of_label = p[rows, predictions.labels]
    return _Scored(
        p.max(axis=1),
        predictions.scores.argmax(axis=1) == predictions.labels,
        _nll(predictions, of_label),
        np.sum(p**2, axis=1) - of_label**2 + (1 - of_label) ** 2,
    )


def _nll(predictions: Predictions, of_label: np.ndarray) -> np.ndarray:
    """−log p of the label; from logits it stays finite where p itself is too small for a float."""
    if predictions.scale == "probabilities":
        with np.errstate(divide="ignore"):
            return -np.log(of_label)
    scores = predictions.scores.astype(np.float64)
    shifted = scores - scores.max(axis=1, keepdims=True)
    label = shifted[np.arange(len(shifted)), predictions.labels]
    return np.log(np.exp(shifted).sum(axis=1)) - label
