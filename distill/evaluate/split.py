"""The evaluation of kind `split`: a model's metrics over images, of the run's data or others."""

import dataclasses
from typing import Any, Literal

from distill.data import Source
from distill.data.classes import among
from distill.errors import UserError
from distill.evaluate.evaluation import ImagesEvaluation
from distill.evaluate.head import HeadEvaluation, head_evaluation
from distill.evaluate.images import open_images
from distill.evaluate.of_images import OfImagesConfig, measured
from distill.metrics import ConfusionMatrix
from distill.metrics.classification import competing
from distill.nn.dense import HeadedNetwork
from distill.subject import PerExample, Subject


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitConfig(OfImagesConfig):
    """A split to measure the model on, against labels and against its teachers.

    Raises:
      ValueError: for values out of bounds.
    """

    kind: Literal["split"] = "split"
    per_class: bool = False
    """Whether to measure each class on its own: `NAME/per_class/accuracy/CLASS`, and the means over
    the classes of accuracy and of intersection over union."""

    def build(self, name: str, subject: Subject) -> ImagesEvaluation | HeadEvaluation | None:
        """Metrics named `NAME/accuracy`, `NAME/kl`; None of a run that holds no split out.

        Of a head on frozen tokens, those of its pixels: `NAME/mean_iou` or `NAME/rmse`.
        """
        if isinstance(subject.network, HeadedNetwork):
            self._check_pixels()
            return head_evaluation(name, subject, source=self.source, split=self.split)
        if (shown := self.shown(name, subject)) is None:
            return None
        found = open_images(subject, shown.data, shown.split)
        images, per_example = found.source, subject.metrics(found.source)
        if self.per_class and images.class_names and subject.network.config.num_classes:
            per_example = _with_classes(per_example, subject, images)
        return measured(name, subject, shown, found, per_example)

    def _check_pixels(self) -> None:
        """Refuses what is of images that have one class each."""
        own = {field.name: field.default for field in dataclasses.fields(SplitConfig)}
        kept = ("kind", "every", "source", "split")
        for name, default in own.items():
            if name not in kept and getattr(self, name) != default:
                raise UserError(
                    f"{name} is of images that have one class each, and a head tells what pixels "
                    f"show: leave {name} out"
                )


def _with_classes(per_example: PerExample, subject: Subject, images: Source) -> PerExample:
    """The metrics, and which classes are taken for which, of those that compete."""
    network, some, names = subject.network, among(images), images.class_names

    def with_classes(params: Any, frozen: Any, batch: dict[str, Any]):
        # The compiler finds that it has computed these already.
        logits = network.apply(params, network.prepare(batch["image"])).logits
        predictions = competing(logits, some).argmax(-1)
        confusion = ConfusionMatrix.of(predictions, batch["label"], batch["mask"], names, "a label")
        return per_example(params, frozen, batch) | {"per_class": confusion}

    return with_classes
