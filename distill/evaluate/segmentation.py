"""The evaluation of kind `segmentation`: the class of each pixel, learnt of frozen tokens."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from distill.analysis.resizing import classes_at
from distill.analysis.segmentation import PixelConfusion, patch_shares
from distill.data.spec import MaskSpec
from distill.evaluate.dense import DenseConfig, DenseImages, DenseProbes, named, open_dense
from distill.evaluate.dense_learning import Learnt
from distill.evaluate.dense_pictures import Shown
from distill.evaluate.notes import Notes
from distill.nn import Params
from distill.subject import Subject

ARRAY = "segmentation"
"""Of examples, the class of each pixel."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentationConfig(DenseConfig):
    """How well the class of each pixel is told by a linear map of frozen tokens, or their vote.

    What is learnt of a patch is which share of its pixels is of which class. Scores are
    interpolated bilinearly to the label's size, where the highest is the prediction.

    Raises:
      ValueError: for values out of bounds.
    """

    kind: Literal["segmentation"] = "segmentation"

    def build(self, name: str, subject: Subject) -> "SegmentationEvaluation | None":
        """Metrics named `NAME/mean_iou`, and `NAME/0.25/mean_iou` of a fraction of the images."""
        images = open_dense(name, self, subject, ARRAY, "masks:PATH")
        return None if images is None else SegmentationEvaluation(name, self, subject, images)


class SegmentationEvaluation:
    """Compares predicted masks with those of images.

    Args:
      name: prefix of the metrics.
      config: what to learn of which tokens.
      subject: the model.
      images: to learn from and to predict.
    """

    missing: frozenset[str] = frozenset()
    """Figures of which the last call could say nothing."""

    def __init__(
        self, name: str, config: SegmentationConfig, subject: Subject, images: DenseImages
    ):
        assert isinstance(images.spec, MaskSpec)
        self._name, self._images, self._spec = name, images, images.spec
        self._probes = DenseProbes(name, config, subject, images, needs="a labelled pixel")
        self.remarks = self._probes.remarks
        self._confusions: dict[float, PixelConfusion] = {}
        self._pictures: dict[str, Any] = {}
        self._notes = Notes()

    def __call__(self, params: Params, frozen: Any = None) -> dict[str, float]:
        """Figures as `name/mean_iou`; all processes must call it, and all get the same.

        Raises:
          RunFailed: if too many images are corrupt, or a token is not finite.
          UserError: if a label is of no class, or no patch that is learnt from has one.
        """
        del frozen
        self._probes.check_apart()
        return self.measure(params, self.learn(params))

    def learn(self, params: Params) -> dict[float, Learnt]:
        """What is learnt from each fraction of the images; all processes must call it.

        Raises:
          RunFailed: if too many images are corrupt, or a token is not finite.
          UserError: if a label is of no class, or no patch has one.
        """
        classes, ignore = len(self._spec.class_names), self._spec.ignore

        def shares(label: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
            return patch_shares(label, grid, classes, ignore=ignore)

        return self._probes.learn(params, classes, shares)

    def measure(self, params: Params, learnt: Mapping[float, Learnt]) -> dict[str, float]:
        """Figures of what was learnt, by fraction; all processes must call it.

        Raises:
          RunFailed: if too many images are corrupt.
          UserError: if a label is of no class.
        """
        classes, ignore = len(self._spec.class_names), self._spec.ignore
        found = {fraction: PixelConfusion.none(classes) for fraction in learnt}
        pictures, most = self._probes.pictures(), max(learnt)
        for image, scores in self._probes.predict(params, learnt):
            label, source = image.example[ARRAY], self._images.test.describe(image.index)
            for fraction, one in scores.items():
                prediction = classes_at(one, label.shape)
                confusion = PixelConfusion.of(
                    prediction, label, classes, ignore=ignore, source=source
                )
                found[fraction] += confusion
                score = confusion.figures().get("mean_iou", np.nan)
                if fraction == most and pictures.wants(image.index, score):
                    name = self._images.test.name(image.index)
                    truth, told = (array.astype(np.uint8) for array in (label, prediction))
                    pictures.show(image, Shown(name, image.pixels, truth, told, score))
        self._confusions, self._pictures = found, pictures.details()
        metrics: dict[str, float] = {}
        for fraction, confusion in sorted(found.items(), reverse=True):
            l2 = learnt[fraction].l2
            figures = confusion.figures() | ({} if l2 is None else {"l2": l2})
            metrics |= named(self._name, fraction, figures)
        whole = named(self._name, 1, dict.fromkeys(PixelConfusion.FIGURES, 0.0))
        self.missing = frozenset(whole) - frozenset(metrics) if 1 in found else frozenset()
        if not any(confusion.matrix.any() for confusion in found.values()):
            listed = ", ".join(whole)
            self._notes.say(f"{listed} missing: no pixel of the images to predict has a label")
        return metrics

    def metrics(self, params: Any, frozen: Any = None) -> frozenset[str]:
        """What a call may find."""
        del params, frozen
        return self._probes.may_find(PixelConfusion.FIGURES)

    def seen(self) -> list[str]:
        """How many images the last call has predicted, and learnt from."""
        return [f"{self.predicted()}; {self._probes.learnt_from()}"]

    def predicted(self) -> str:
        """How many images the last call has predicted."""
        return self._probes.predicted()

    def about(self) -> dict[str, Any]:
        """The images, how they are shown, and a row for each class."""
        tables = {
            f"{fraction:g}": one.per_class(self._spec.class_names)
            for fraction, one in self._confusions.items()
        }
        details = {
            "classes": tables,
            "class_names": list(self._spec.class_names),
            "ignore": self._spec.ignore % 256,
            "figures": list(PixelConfusion.FIGURES),
            "pictures": self._pictures,
        }
        return {**self._probes.about(), "details": details}
