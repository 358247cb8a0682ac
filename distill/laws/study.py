"""What a scaling study has measured, and what follows from it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distill.config import ConfigError
from distill.data import Splits
from distill.errors import UserError
from distill.evaluate.evaluation import EvaluationConfig
from distill.evaluate.split import SplitConfig
from distill.laws.law import Fit, check_falling, fit_law, pareto_frontier

MEASURES = ("error", "cross_entropy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One finished model."""

    size: str
    parameters: int
    steps: int
    images: int
    """Seen in training, each as often as it was."""
    flops: float
    """Of training it."""
    errors: dict[str, float]
    """By measure: the share of images that is misclassified, and cross-entropy in nats."""


@dataclasses.dataclass(frozen=True)
class Trend:
    """How one measure of error falls with compute."""

    measure: str
    frontier: np.ndarray
    """Which points no other beats, bool [N]."""
    fit: Fit | None
    """To the frontier; None if there is no fit."""
    problem: str = ""
    """Why there is no fit."""

    def figures(self) -> dict[str, Any]:
        """The law with its intervals, as JSON has them."""
        if self.fit is None:
            return {"measure": self.measure, "problem": self.problem}
        return {
            "measure": self.measure,
            "law": dataclasses.asdict(self.fit.law),
            "intervals": {name: list(ends) for name, ends in self.fit.intervals().items()},
            "confidence": self.fit.confidence,
            "points": self.fit.points,
        }


def held_out_images(splits: Splits) -> dict[str, int]:
    """Number of images to measure errors on, by the prefix of their metrics."""
    named = {"val": splits.validation, "test": splits.test}
    return {name: len(source) for name, source in named.items() if source is not None}


def check_measured(evals: Mapping[str, EvaluationConfig], splits: Splits) -> None:
    """Checks, before the first model is trained, that its errors will be known.

    Args:
      evals: of the runs, by name.
      splits: of the data.

    Raises:
      ConfigError: if a split has no labels, or images to validate on are not evaluated as such.
    """
    named = {"val": splits.validation, "test": splits.test}
    if without := [name for name, source in named.items() if source and not source.class_names]:
        raise ConfigError(
            [
                f"config.base.data: the images of {' and '.join(without)} have no labels, and a "
                "study measures errors; name labelled data"
            ]
        )
    if splits.validation is not None and not isinstance(evals.get("val"), SplitConfig):
        raise ConfigError(
            [
                "config.base.evals.val is what a study reads val/accuracy and val/cross_entropy "
                "of; let its kind be split, or set config.base.data.validation_split=none"
            ]
        )


def held_out(summary: Mapping[str, float], images: Mapping[str, int]) -> dict[str, float]:
    """A model's errors by measure, over the images of all splits together.

    Args:
      summary: of its run, with accuracy and cross-entropy of each split.
      images: of each split, as `held_out_images` has them.

    Raises:
      UserError: if a split has no such figure, because none of its images has a label.
    """

    def mean(metric: str) -> float:
        missing = [f"{name}/{metric}" for name in images if f"{name}/{metric}" not in summary]
        if missing:
            raise UserError(
                f"nothing is known of {', '.join(missing)}: a study measures errors on images with "
                "labels; name such data in config.base.data"
            )
        total = sum(count * summary[f"{name}/{metric}"] for name, count in images.items())
        return total / sum(images.values())

    return {"error": 1 - mean("accuracy"), "cross_entropy": mean("cross_entropy")}


def find_trend(points: Sequence[Point], measure: str, *, resamples: int, seed: int) -> Trend:
    """Fits the law to the frontier of all points, as arXiv 2106.04560, §2.2, does.

    Args:
      points: of all sizes and lengths.
      measure: of error.
      resamples: of the fit's bootstrap.
      seed: of the fit's bootstrap.
    """
    flops = np.array([point.flops for point in points], np.float64)
    errors = np.array([point.errors[measure] for point in points], np.float64)
    # Nothing can be said of how far an error of zero is from the one behind it.
    measured = errors > 0
    frontier = np.zeros(len(points), bool)
    frontier[measured] = pareto_frontier(flops[measured], errors[measured])
    if not measured.all():
        missing = f"{np.sum(~measured)} models make no error that these images could show"
        return Trend(measure, frontier, None, missing)
    try:
        fit = fit_law(flops[frontier], errors[frontier], resamples=resamples, seed=seed)
        # A frontier falls by its construction, whatever it is taken from.
        check_falling(flops, errors)
    except ValueError as error:
        return Trend(measure, frontier, None, str(error))
    return Trend(measure, frontier, fit)
