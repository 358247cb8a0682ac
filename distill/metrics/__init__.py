"""What is measured of a model: sums that are made of batches, merged, and read off."""

from distill.metrics.calibration import CalibrationError
from distill.metrics.classification import (
    accuracy,
    agreement,
    classification_metrics,
    label_metrics,
    top5_accuracy,
    top5_agreement,
)
from distill.metrics.confusion import ConfusionMatrix
from distill.metrics.metric import Largest, Mean, Metric
from distill.metrics.similarity import LinearCKA

__all__ = [
    "CalibrationError",
    "ConfusionMatrix",
    "Largest",
    "LinearCKA",
    "Mean",
    "Metric",
    "accuracy",
    "agreement",
    "classification_metrics",
    "label_metrics",
    "top5_accuracy",
    "top5_agreement",
]
