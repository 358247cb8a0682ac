"""Classification, agreement, calibration, and how alike features are."""

from distill.evaluate.calibration import CalibrationError
from distill.evaluate.chance import warn_if_near_chance
from distill.evaluate.classification import (
    accuracy,
    agreement,
    classification_metrics,
    label_metrics,
    top5_accuracy,
    top5_agreement,
)
from distill.evaluate.evaluator import Evaluator, PerExample
from distill.evaluate.metric import Mean, Metric
from distill.evaluate.similarity import LinearCKA

__all__ = [
    "CalibrationError",
    "Evaluator",
    "LinearCKA",
    "Mean",
    "Metric",
    "PerExample",
    "accuracy",
    "agreement",
    "classification_metrics",
    "label_metrics",
    "top5_accuracy",
    "top5_agreement",
    "warn_if_near_chance",
]
