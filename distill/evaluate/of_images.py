"""What evaluations of images have in common: which images, and how they are shown."""

import dataclasses
from typing import NamedTuple

from distill.bounds import CropShare
from distill.data import DataConfig
from distill.data.sources import SourceName
from distill.errors import UserError, check_each_once
from distill.evaluate.evaluation import EvaluationConfig, ImagesEvaluation
from distill.evaluate.features import split_loader
from distill.evaluate.images import Images
from distill.evaluation_view import Crop, EvaluationView, Filter, Resize
from distill.paths import IN_ORDER, ClassMap
from distill.subject import PerExample, Subject


class Shown(NamedTuple):
    """Images by where they are, and how a model is shown them."""

    data: DataConfig
    split: str
    view: EvaluationView

    def cropped(self, crop: Crop) -> "Shown":
        """The same images, of which another part is shown."""
        return self._replace(view=self.view.cropped(crop))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfImagesConfig(EvaluationConfig):
    """Which images a model is measured on, and how it is shown them.

    Raises:
      ValueError: for values out of bounds.
    """

    source: SourceName | None = None
    """Such as `digits`, `folder:PATH` or `tfds:NAME`; None takes the run's own data."""
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
    crop: CropShare | None = None
    """Side of the central crop over that of the resized image's shorter side; None takes the
    model's own, as for the two that follow."""
    resize: Resize | None = None
    filter: Filter | None = None

    def __post_init__(self):
        super().__post_init__()
        check_each_once("classes", self.classes)
        self._seen(EvaluationView())

    @property
    def names_data(self) -> bool:
        """Whether it says itself on which images."""
        return self.source is not None

    def shown(self, name: str, subject: Subject) -> Shown | None:
        """The images, and how they are shown; None of a run that holds no split out.

        Raises:
          UserError: if nothing says which split.
        """
        split = self.split or subject.split
        if split is None and self.source is None:
            return None
        if split is None:
            raise UserError(
                f"{name} names no split of {self.source}, and the run has no validation split "
                f"whose name it could take; give config.evals.{name}.split"
            )
        return Shown(self.read_from(subject.data), split, self._seen(subject.view))

    def read_from(self, data: DataConfig) -> DataConfig:
        """How the images are read, where `data` is the run's own."""
        if self.source:
            data = dataclasses.replace(data, eval_source=self.source, captions=None)
        if self.class_map or self.source:
            data = dataclasses.replace(data, class_map=self.class_map)
        if self.classes or self.class_map == IN_ORDER:
            data = dataclasses.replace(data, classes=self.classes)
        return data

    def _seen(self, view: EvaluationView) -> EvaluationView:
        """The model's view with what is said here."""
        said = {name: getattr(self, name) for name in ("crop", "resize", "filter")}
        return dataclasses.replace(view, **{k: v for k, v in said.items() if v is not None})


def measured(
    name: str, subject: Subject, shown: Shown, images: Images, per_example: PerExample
) -> ImagesEvaluation:
    """The evaluation that goes over images as they are shown.

    Args:
      name: prefix of the metrics.
      subject: the model.
      shown: where the images are, and how they are shown.
      images: the same, opened.
      per_example: measures a batch.
    """
    batches = split_loader(
        images.source,
        shown.data,
        subject.mesh,
        size=subject.view_size,
        batch_size=subject.batch_size,
        view=shown.view,
    )
    return ImagesEvaluation(
        name,
        batches,
        per_example,
        images=images.source,
        source=shown.data.evaluation_source,
        split=shown.split,
        view=shown.view,
        class_map=shown.data.class_map,
        remarks=images.remarks,
    )
