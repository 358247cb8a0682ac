"""The evaluation of kind `subgroups`: accuracy group by group, and how far apart groups are."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from distill.analysis.fairness import FEW
from distill.analysis.predictions import Predictions
from distill.analysis.tables import Table, read_csv
from distill.errors import UserError
from distill.evaluate.predicted import Measured, PredictionsConfig
from distill.paths import LocalPath


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubgroupsConfig(PredictionsConfig):
    """Accuracy of each group of images."""

    kind: Literal["subgroups"] = "subgroups"
    group: str = "label"
    """The column that says the groups: of `table`, of the predictions, or `label`, the class."""
    table: LocalPath | None = None
    """A CSV file that says more of the images, whose names are its first column."""

    def measure(self, predictions: Predictions) -> Measured:
        """Figures such as `accuracy/GROUP`, `accuracy_gap` and `worst_accuracy`."""
        predictions = predictions.where(predictions.labels >= 0)
        if not len(predictions):
            raise UserError("no image has a label to compare with")
        groups = self._groups(predictions)
        right = predictions.scores.argmax(axis=1) == predictions.labels
        names, places = np.unique(groups, return_inverse=True)
        total = np.bincount(places)
        correct = np.bincount(places, right, len(names)).astype(int)
        accuracy = correct / total
        counts = {
            f"accuracy/{name}": [int(one), int(of)]
            for name, one, of in zip(names.tolist(), correct, total, strict=True)
        }
        few = [
            f"the group {name} has {of} images; figures of fewer than {FEW} are mostly noise"
            for name, of in zip(names.tolist(), total.tolist(), strict=True)
            if of < FEW
        ]
        lines = few if len(few) < 4 else [f"{len(few)} groups have fewer than {FEW} images"]
        return Measured(
            {
                "accuracy": float(right.mean()),
                "worst_accuracy": float(accuracy.min()),
                "accuracy_gap": float(accuracy.max() - accuracy.min()),
                **{name: one / of for name, (one, of) in counts.items()},
            },
            tuple(lines),
            {"counts": {"accuracy": [int(right.sum()), len(right)], **counts}},
        )

    def _groups(self, predictions: Predictions) -> np.ndarray:
        """The group of each image, str [N].

        Raises:
          UserError: if there is no such column, or the table lacks an image.
        """
        columns = {"name": predictions.names, **predictions.columns}
        columns["label"] = np.array(predictions.class_names)[predictions.labels]
        lines = np.arange(1, len(predictions) + 1)
        table = Table(source="the predictions", columns=columns, lines=lines)
        if self.table is not None:
            table = table.joined(read_csv(Path(self.table)))
        return table.texts(self.group)
