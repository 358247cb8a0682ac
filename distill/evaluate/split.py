"""The evaluation of kind `split`: a model's metrics over images, of the run's data or others."""

import dataclasses
from typing import Any, Literal

from distill.data import DataConfig, Source
from distill.data.classes import IN_ORDER, ClassMap, among
from distill.data.sources import SourceName
from distill.errors import UserError, check_choices, check_each_once
from distill.evaluate.evaluation import EvaluationConfig, ImagesEvaluation
from distill.evaluate.features import split_loader
from distill.evaluate.images import open_images
from distill.evaluation_view import EvaluationView, Filter, Resize
from distill.metrics import ConfusionMatrix
from distill.metrics.classification import competing
from distill.subject import PerExample, Subject


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitConfig(EvaluationConfig):
    """A split to measure the model on, against labels and against its teachers.

    Raises:
      ValueError: for values out of bounds.
    """

    kind: Literal["split"] = "split"
    source: SourceName | None = None
    """`digits`, `folder:PATH` or `tfds:NAME`; None takes the run's own data."""
    split: str | None = None
    """Of the source; None takes the run's validation split while training, its test split
    afterwards."""
    classes: tuple[str, ...] = ()
    """Only images of these; empty takes all, or the run's. As many as the model's, but called
    otherwise, they are taken to be in the model's order."""
    class_map: ClassMap | None = None
    """A JSON file {class of the data: class of the model}, or `in_order`: the data's classes are
    the model's, one after the other, whatever they are called. None takes the run's map for its own
    data, and none for another source."""
    crop: float | None = None
    """Side of the central crop over that of the resized image's shorter side; None takes the
    model's own, as for the two that follow."""
    resize: Resize | None = None
    filter: Filter | None = None
    per_class: bool = False
    """Whether to measure each class on its own: `NAME/per_class/accuracy/CLASS`, and the means over
    the classes of accuracy and of intersection over union."""

    def __post_init__(self):
        super().__post_init__()
        check_choices(self)
        check_each_once("classes", self.classes)
        self._shown(EvaluationView())

    @property
    def names_data(self) -> bool:
        """Whether it says itself on which images."""
        return self.source is not None

    def build(self, name: str, subject: Subject) -> ImagesEvaluation | None:
        """Metrics named `NAME/accuracy`, `NAME/kl`; None of a run that holds no split out."""
        split = self.split or subject.split
        if split is None and self.source is None:
            return None
        if split is None:
            raise UserError(
                f"{name} names no split of {self.source}, and the run has no validation split "
                f"whose name it could take; give config.evals.{name}.split"
            )
        data, view = self.read_from(subject.data), self._shown(subject.view)
        images, remarks = open_images(subject, data, split)
        per_example = subject.metrics(images)
        if self.per_class and images.class_names and subject.network.config.num_classes:
            per_example = _with_classes(per_example, subject, images)
        batches = split_loader(
            images,
            data,
            subject.mesh,
            size=subject.view_size,
            batch_size=subject.batch_size,
            view=view,
        )
        return ImagesEvaluation(
            name,
            batches,
            per_example,
            images=images,
            source=data.evaluation_source,
            split=split,
            view=view,
            class_map=data.class_map,
            remarks=remarks,
        )

    def read_from(self, data: DataConfig) -> DataConfig:
        """How the images are read, where `data` is the run's own."""
        if self.source:
            data = dataclasses.replace(data, eval_source=self.source)
        if self.class_map or self.source:
            data = dataclasses.replace(data, class_map=self.class_map)
        if self.classes or self.class_map == IN_ORDER:
            data = dataclasses.replace(data, classes=self.classes)
        return data

    def _shown(self, view: EvaluationView) -> EvaluationView:
        """The model's view with what is said here."""
        said = {name: getattr(self, name) for name in ("crop", "resize", "filter")}
        return dataclasses.replace(view, **{k: v for k, v in said.items() if v is not None})


def _with_classes(per_example: PerExample, subject: Subject, images: Source) -> PerExample:
    """The metrics, and which classes are taken for which, of those that compete."""
    network, some, names = subject.network, among(images), images.class_names

    def measured(params: Any, frozen: Any, batch: dict[str, Any]):
        # The compiler finds that it has computed these already.
        logits = network.apply(params, network.prepare(batch["image"])).logits
        predictions = competing(logits, some).argmax(-1)
        confusion = ConfusionMatrix.of(predictions, batch["label"], batch["mask"], names, "a label")
        return per_example(params, frozen, batch) | {"per_class": confusion}

    return measured
