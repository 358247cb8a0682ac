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

    @property
    def figures(self) -> tuple[str, ...]:
        """What may be found; `*` is a group."""
        return ("accuracy", "worst_accuracy", "accuracy_gap", "accuracy/*")

    def measure(self, predictions: Predictions) -> Measured:
        """Figures such as `accuracy/GROUP`, `accuracy_gap` and `worst_accuracy`."""
        labelled = predictions.labels >= 0
        if not labelled.any():
            raise UserError("no image has a label to compare with")
        groups = self._groups(predictions, labelled)
        predictions = predictions.where(labelled)
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

    def _groups(self, predictions: Predictions, labelled: np.ndarray) -> np.ndarray:
        """The group of each image that has a label, str [N].

        Raises:
          UserError: if there is no such column, the table lacks an image, a group is missing, or
            two classes that are groups have one name.
        """
        classes = np.array(predictions.class_names)
        columns = {"name": predictions.names, **predictions.columns}
        columns["label"] = classes[predictions.labels]
        lines = np.arange(1, len(predictions) + 1)
        table = Table(source="the predictions", columns=columns, lines=lines).where(labelled)
        if self.table is not None:
            table = table.joined(read_csv(Path(self.table)))
        if self.group == "label":
            names = classes[np.unique(predictions.labels[labelled])]
            _check_distinct(names.tolist())
        return table.texts(self.group)


def _check_distinct(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"{names.count(name)} classes are called {name!r}, so that groups by label cannot "
                "tell them apart; give class_names of their own, or group=COLUMN"
            )
