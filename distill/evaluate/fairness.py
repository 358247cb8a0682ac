"""The evaluation of kind `fairness`: how groups fare by a decision, and what parity would cost."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from distill.analysis import debiasing
from distill.analysis.celeba import PARTITION, read_attributes, read_partition
from distill.analysis.fairness import cases_of_table
from distill.analysis.predictions import Predictions
from distill.analysis.tables import Table, read_csv, table_of_predictions
from distill.analysis.temperature import held_out
from distill.bounds import Gamma, ProperShare, Share
from distill.errors import UserError
from distill.evaluate.linear_head import TRAIN, HeadPredictor
from distill.evaluate.of_images import Shown
from distill.evaluate.partitions import PartitionedPredictor
from distill.evaluate.predicted import Measured, Predicting, PredictionsConfig, Predictor
from distill.paths import LocalPath
from distill.subject import Subject

# Partitions that debiasers are fitted to, and that all else is measured on.
VALIDATION, TEST = "validation", "test"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FairnessConfig(PredictionsConfig):
    """Groups under a binary decision, and exact debiasing; see docs/fairness.md.

    Raises:
      ValueError: for values out of bounds.
    """

    kind: Literal["fairness"] = "fairness"
    positive: str | None = None
    """The class whose probability is the score; None fits a linear head on frozen features to
    `target`, for models that have no such class."""
    group: str
    """The column that says the groups: of `table`, `attributes`, or what a source says itself, such
    as attributes/Male of tfds:celeb_a."""
    target: str = "label"
    """The column that says whether 1 is right; `label` is whether an image is of that class."""
    table: LocalPath | None = None
    """A CSV file that says more of the images, whose names are its first column."""
    attributes: LocalPath | None = None
    """CelebA's `list_attr_celeba.txt`, or Kaggle's CSV of it."""
    partition: LocalPath | None = None
    """CelebA's `list_eval_partition.txt`, or Kaggle's CSV of it: a linear head is fitted to the
    images of partition 0, train, debiasers to those of 1, validation, and all else is measured on
    those of 2, test."""
    train_split: str | None = None
    """Without `partition`: the images that a linear head is fitted to; None takes the run's
    train_split, of the run's own data."""
    held_out_split: str | None = None
    """Without `partition`: the images that debiasers are fitted to; None takes a share of those of
    `split`."""
    held_out: ProperShare = 0.5
    """That share, chosen by the images' names; nothing else is measured on it."""
    gamma: Gamma = debiasing.DebiaserConfig.gamma
    """γ, the span of 2p − 1 over which decisions go from 0 to 1."""
    biases: tuple[Share, ...] = debiasing.BIASES
    """ε, how far apart groups' rates may be, a debiaser each."""

    by_the_models_classes: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        if self.positive is None and self.target == "label":
            raise ValueError(
                "give positive, a class of the model, or target, the column that a linear head is "
                "fitted to"
            )
        if self.partition is not None and (self.train_split or self.held_out_split):
            raise ValueError("partition says what is fitted to what; leave out other splits")
        if self.positive is not None and self.train_split:
            raise ValueError("train_split is for a linear head; leave out positive, or it")

    def predictor(self, subject: Subject, shown: Shown) -> Predicting:
        """What predicts the positive class of the images, those to fit debiasers to among them.

        Raises:
          UserError: if images or splits are missing.
        """
        parts = {TEST: shown}
        if self.held_out_split is not None:
            parts[VALIDATION] = shown._replace(split=self.held_out_split)
        if self.positive is None:
            parts = (
                {"": shown} if self.partition else parts | {TRAIN: self._training(subject, shown)}
            )
            return HeadPredictor(subject, parts, self.target, self._known)
        predictors = {part: Predictor(subject, one, numbered=False) for part, one in parts.items()}
        return PartitionedPredictor(predictors) if len(parts) > 1 else predictors[TEST]

    def _training(self, subject: Subject, shown: Shown) -> Shown:
        """The images that a head is fitted to, of a run's own data its training images.

        Raises:
          UserError: if nothing says which.
        """
        if self.source is not None and self.train_split is None:
            raise UserError(
                f"a linear head for {self.target} needs images to fit it to: give train_split, or "
                "partition; or positive, if the model has a class for it"
            )
        data = shown.data if self.source else dataclasses.replace(shown.data, eval_source=None)
        return shown._replace(data=data, split=self.train_split or data.train_split)

    @property
    def figures(self) -> tuple[str, ...]:
        """What may be found; `*` is a group."""
        debiased = (
            f"debiased/{bias:g}/{name}"
            for bias in self.biases
            for name in ("accuracy", "parity_gap", "accuracy_gap", "ece")
        )
        gaps = ("parity_gap", "accuracy_gap", "tpr_gap", "fpr_gap")
        return ("accuracy", "ece", *gaps, "accuracy/*", *debiased)

    def measure(self, predictions: Predictions) -> Measured:
        """Figures such as `parity_gap`, and `debiased/0.05/accuracy`."""
        positive = self.positive or self.target
        table = self._known(table_of_predictions(predictions, positive, "the predictions"))
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
        details = found.as_json() | {"counts": {"accuracy": [correct, len(cases)]}}
        lines = (line, *found.warnings)
        if (head := predictions.about.get("head")) is not None:
            lines, details = (_of_head(head), *lines), details | {"head": head}
        return Measured(figures, lines, details)

    def _known(self, table: Table) -> Table:
        """The table with what the files say of its images."""
        if self.table is not None:
            table = table.joined(read_csv(Path(self.table)))
        if self.attributes is not None:
            table = table.joined(read_attributes(Path(self.attributes)))
        if self.partition is not None:
            table = table.joined(read_partition(Path(self.partition)))
        return table

    def _parts(self, table: Table) -> tuple[Table, Table]:
        """The images to fit debiasers to, and those to measure."""
        if self.partition is None and self.held_out_split is None:
            chosen = held_out(table.texts("name"), self.held_out)
            others = ~chosen
        else:
            splits = table.texts(PARTITION)
            chosen, others = splits == VALIDATION, splits == TEST
        if not chosen.any() or not others.any():
            raise UserError(
                f"{chosen.sum()} of {len(table)} images are to fit debiasers to and "
                f"{others.sum()} to measure; expected some of both"
            )
        return table.where(chosen), table.where(others)


def _of_head(head: Mapping[str, Any]) -> str:
    """What was fitted, to how many images."""
    return (
        f"a linear head on frozen features was fitted to {head['target']} of {head['images']:,} "
        f"images, {head['positives']:,} of which have it; its penalty {head['l2']:g} did best on "
        f"{head['held_out']:,} of them, held out"
    )
