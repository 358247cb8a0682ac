"""Classification and agreement."""

from distill.evaluate.classification import (
    accuracy,
    agreement,
    classification_metrics,
    label_metrics,
    top5_accuracy,
)
from distill.evaluate.evaluator import Evaluator, PerExample

__all__ = [
    "Evaluator",
    "PerExample",
    "accuracy",
    "agreement",
    "classification_metrics",
    "label_metrics",
    "top5_accuracy",
]
