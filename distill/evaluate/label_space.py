"""The evaluation of kind `label_space`: sets made for ImageNet's classes, or of one's own."""

import dataclasses
from typing import ClassVar, Literal

from distill.analysis.calibration import top_label_calibration
from distill.analysis.label_spaces.label_space import SetOrMap, known_label_spaces
from distill.analysis.label_spaces.model_classes import Combine
from distill.analysis.label_spaces.scoring import LabelSpaceConfig
from distill.analysis.predictions import Predictions
from distill.data.transforms import WithoutBorder
from distill.evaluate.of_images import Shown
from distill.evaluate.predicted import Measured, PredictionsConfig, Predictor
from distill.evaluation_view import Crop
from distill.paths import ClassMap
from distill.subject import Subject


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelSpaceEvaluation(PredictionsConfig):
    """Accuracy on a set made for ImageNet's classes, or on one of your own by a map.

    Images are found by their names, so that `source` may be `images:PATH`, of the folder as it was
    published; see docs/evaluation.md.

    Raises:
      ValueError: for values out of bounds.
    """

    kind: Literal["label_space"] = "label_space"
    label_space: SetOrMap
    """A known set, such as real or imagenet_a, or a JSON file {image or folder: class or list of
    classes} for another."""
    model_classes: ClassMap | None = None
    """For a model whose classes are not called by WordNet numbers: a JSON file {class of the set:
    list of the model's classes}, or in_order for ImageNet's 1,000 or ImageNet-21k's 21,843."""
    combine: Combine = "max"
    """How logits of several of the model's classes become that of the class they stand for."""
    view: Crop | None = None
    """What of an image is shown; None takes the set's usual one, if neither `crop` nor `resize` is
    given."""

    by_the_models_classes: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        if self.view is not None and (self.crop is not None or self.resize is not None):
            raise ValueError("view says crop and resize already; give one of them")
        _ = self._scoring

    @property
    def _scoring(self) -> LabelSpaceConfig:
        return LabelSpaceConfig(
            label_space=self.label_space,
            model_classes=self.model_classes,
            combine=self.combine,
        )

    def shown(self, name: str, subject: Subject) -> Shown | None:
        """The images, and how they are shown: by the set's crop, unless another is given."""
        found = super().shown(name, subject)
        known = known_label_spaces().get(self.label_space)
        crop = self.view
        if crop is None and known is not None and self.crop is None and self.resize is None:
            crop = known.crop
        return found if found is None or crop is None else found.cropped(crop)

    def predictor(self, subject: Subject, shown: Shown) -> Predictor:
        """That of the images, without the border that the set has."""
        found = Predictor(subject, shown, numbered=self.by_the_models_classes)
        known = known_label_spaces().get(self.label_space)
        if known is not None and known.border:
            found.images = WithoutBorder(found.images, known.border)
        return found

    @property
    def figures(self) -> tuple[str, ...]:
        """What may be found."""
        accuracies = (f"{a}{b}accuracy" for a in ("", "among_all/") for b in ("", "top5_"))
        return (*accuracies, "ece", "nll")

    def measure(self, predictions: Predictions) -> Measured:
        """Figures such as `accuracy`, `top5_accuracy`, `among_all/accuracy` and `ece`."""
        found = self._scoring.score(predictions)
        said = found.as_json()
        everywhere = said["among_all"]
        calibration = top_label_calibration(found.predictions).as_json()
        counts = {
            f"{prefix}{figure}accuracy": [said_of[f"{figure}correct"], said["images"]]
            for prefix, said_of in {"": said, "among_all/": everywhere}.items()
            for figure in ("", "top5_")
        }
        figures = {name: correct / total for name, (correct, total) in counts.items()}
        left_out = f", {said['left_out']:,} left out" if said["left_out"] else ""
        line = (
            f"{said['label_space']}: {said['images']:,} images count{left_out}, among "
            f"{said['classes']:,} classes; among_all is among {everywhere['classes']:,}"
        )
        return Measured(
            figures | {"ece": calibration["ece"], "nll": calibration["nll"]},
            (line, *found.remarks),
            said | {"counts": counts, "before": calibration},
        )
