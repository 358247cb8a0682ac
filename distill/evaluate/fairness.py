"""The evaluation of kind `fairness`: how groups fare by a decision, and what parity would cost."""

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from distill.analysis import debiasing
from distill.analysis.celeba import PARTITION, read_attributes, read_partition
from distill.analysis.fairness import cases_of_table
from distill.analysis.predictions import Predictions
from distill.analysis.tables import Table, read_csv, table_of_predictions
from distill.analysis.temperature import held_out
from distill.errors import UserError
from distill.evaluate.predicted import Measured, PredictionsConfig
from distill.paths import LocalPath


@dataclasses.dataclass(frozen=True, kw_only=True)
class FairnessConfig(PredictionsConfig):
    """Groups under a binary decision, and exact debiasing; see docs/evaluation.md.

    Raises:
      ValueError: for values out of bounds.
    """

    kind: Literal["fairness"] = "fairness"
    positive: str
    """The class whose probability is the score."""
    group: str
    """The column that says the groups."""
    target: str = "label"
    """The column that says whether 1 is right; `label` is whether an image is of that class."""
    table: LocalPath | None = None
    """A CSV file that says more of the images, whose names are its first column."""
    attributes: LocalPath | None = None
    """CelebA's `list_attr_celeba.txt`, or Kaggle's CSV of it."""
    partition: LocalPath | None = None
    """CelebA's `list_eval_partition.txt`, or Kaggle's CSV of it: debiasers are fitted to the images
    of partition 1, validation, and measured on those of 2, test."""
    held_out: float = 0.5
    """Without `partition`: the share of the images, chosen by their names, that debiasers are
    fitted to and nothing else is measured on."""
    gamma: float = debiasing.DebiaserConfig.gamma
    """γ, the span of 2p − 1 over which decisions go from 0 to 1."""
    biases: tuple[float, ...] = debiasing.BIASES
    """ε, how far apart groups' rates may be, a debiaser each."""

    by_the_models_classes: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        for bias in self.biases:
            debiasing.DebiaserConfig(gamma=self.gamma, bias=bias)
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be in (0, 1), not {self.held_out}")

    def measure(self, predictions: Predictions) -> Measured:
        """Figures such as `parity_gap`, and `debiased/0.05/accuracy`."""
        table = table_of_predictions(predictions, self.positive, "the predictions")
        if self.table is not None:
            table = table.joined(read_csv(Path(self.table)))
        if self.attributes is not None:
            table = table.joined(read_attributes(Path(self.attributes)))
        fitted, scored = self._parts(table)
        columns = {"score": "score", "target": self.target, "group": self.group}
        fit_to = cases_of_table(fitted, **columns)
        cases = cases_of_table(scored, **columns, groups=fit_to.groups)
        found = debiasing.compare(cases, fit_to, gamma=self.gamma, biases=self.biases)
        hard, score = found.before
        figures = {"accuracy": hard.accuracy, "ece": score.calibration.equal_width.error()}
        figures |= {
            "parity_gap": hard.gap("rate"),
            "accuracy_gap": hard.gap("accuracy"),
            "tpr_gap": hard.gap("tpr"),
            "fpr_gap": hard.gap("fpr"),
        }
        for name, group in hard.groups.items():
            figures[f"accuracy/{name}"] = group.accuracy
        for one in found.curve:
            said = one.as_json()
            for name in ("accuracy", "parity_gap", "accuracy_gap", "ece"):
                figures[f"debiased/{one.debiaser.bias:g}/{name}"] = said[name]
        line = f"debiasers fitted to {len(fit_to):,} images, all else measured on {len(cases):,}"
        correct = round(hard.accuracy * len(cases))
        counts = {"counts": {"accuracy": [correct, len(cases)]}}
        return Measured(figures, (line, *found.warnings), found.as_json() | counts)

    def _parts(self, table: Table) -> tuple[Table, Table]:
        """The images to fit debiasers to, and those to measure."""
        if self.partition is None:
            chosen = held_out(table.texts("name"), self.held_out)
            others = ~chosen
        else:
            table = table.joined(read_partition(Path(self.partition)))
            splits = table.texts(PARTITION)
            chosen, others = splits == "validation", splits == "test"
        if not chosen.any() or not others.any():
            raise UserError(
                f"{chosen.sum()} of {len(table)} images are to fit debiasers to and "
                f"{others.sum()} to measure; expected some of both"
            )
        return table.where(chosen), table.where(others)
