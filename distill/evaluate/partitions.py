"""Predictions of several splits, told apart by a column."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from distill.analysis.celeba import PARTITION
from distill.analysis.predictions import Predictions
from distill.evaluate.predicted import Predictor, joined_columns
from distill.nn import Params


class PartitionedPredictor:
    """Predicts the classes of images of several splits; the column `partition` says whose each is.

    Args:
      predictors: of one model, by partition, those to measure first.
    """

    def __init__(self, predictors: Mapping[str, Predictor]):
        self._predictors = predictors
        self.remarks = tuple(
            f"{part}: {remark}" for part, one in predictors.items() for remark in one.remarks
        )

    def predictions(self, params: Params) -> Predictions:
        """Of all images, split after split; see `Predictor.predictions`."""
        parts = {part: one.predictions(params) for part, one in self._predictors.items()}
        columns = joined_columns(
            [{**one.columns, PARTITION: np.full(len(one), part)} for part, one in parts.items()]
        )
        return Predictions(
            scores=np.concatenate([one.scores for one in parts.values()]),
            class_names=next(iter(parts.values())).class_names,
            labels=np.concatenate([one.labels for one in parts.values()]),
            names=np.concatenate([one.names for one in parts.values()]),
            columns=columns,
            about=self.about(),
        )

    def about(self) -> dict[str, Any]:
        """The images of all splits, and how they are shown."""
        first, *others = (one.about() for one in self._predictors.values())
        return first | {"data": [*first["data"], *(one for o in others for one in o["data"])]}
