"""The evaluation of kind `depth`: how far away each pixel is, learnt of frozen tokens."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from distill.analysis.depth import EIGEN, FIGURES, NYU, depth_errors, mean_errors, patch_means
from distill.analysis.resizing import pixels, resize_bilinear
from distill.bounds import Positive
from distill.data.sources import CorruptImage
from distill.errors import UserError
from distill.evaluate.dense import (
    DenseConfig,
    DenseImages,
    DenseProbes,
    OutputsOf,
    named,
    open_dense,
)
from distill.evaluate.dense_learning import Learnt
from distill.evaluate.dense_pictures import Shown
from distill.evaluate.notes import Notes
from distill.nn import Params
from distill.subject import Subject

ARRAY = "depth"
"""Of examples, the depth of each pixel."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthConfig(DenseConfig):
    """How well the depth of each pixel is told by a linear map of frozen tokens, or their vote.

    What is learnt of a patch is the mean logarithm of its pixels' depths. Depths are interpolated
    bilinearly to the size of those they are compared with.

    Raises:
      ValueError: for values out of bounds.
    """

    kind: Literal["depth"] = "depth"
    limits: tuple[Positive, Positive] = NYU
    """Lowest and highest depth, in the data's unit; others neither are learnt from nor count."""
    part: Literal["all", "eigen"] = "all"
    """What of an image counts: all, or Eigen's part of NYU Depth v2's 480×640 pixels."""

    def __post_init__(self):
        super().__post_init__()
        low, high = self.limits
        if low >= high:
            raise ValueError(f"limits must satisfy low < high, not {self.limits}")
        if self.probe == "logistic":
            raise ValueError("logistic regression is of classes; a depth has none: probe=ridge")

    def build(self, name: str, subject: Subject) -> "DepthEvaluation | None":
        """Metrics named `NAME/rmse`, `NAME/delta1`, …, and `NAME/aligned/rmse`."""
        images = open_dense(name, self, subject, ARRAY, "depth:PATH")
        return None if images is None else DepthEvaluation(name, self, subject, images)


class DepthEvaluation:
    """Compares predicted depths with those of images.

    Args:
      name: prefix of the metrics.
      config: what to learn of which tokens.
      subject: the model.
      images: to learn from and to predict.
    """

    missing: frozenset[str] = frozenset()
    """Figures of which the last call could say nothing."""

    def __init__(self, name: str, config: DepthConfig, subject: Subject, images: DenseImages):
        self._name, self._config, self._images = name, config, images
        low, high = config.limits
        needs = f"a depth between {low:g} and {high:g} (config.evals.{name}.limits)"
        self._probes = DenseProbes(name, config, subject, images, needs=needs)
        self.remarks = self._probes.remarks
        self._pictures: dict[str, Any] = {}
        self._without = 0
        self._notes = Notes()

    def __call__(self, params: Params, frozen: Any = None) -> dict[str, float]:
        """Figures as `name/rmse`; all processes must call it, and all get the same.

        Raises:
          RunFailed: if too many images are corrupt, or a token is not finite.
          UserError: if no patch that is learnt from has a depth.
        """
        del frozen
        self._probes.check_apart()
        self._check_part()
        low, high = self._config.limits

        def depths(scores: np.ndarray) -> np.ndarray:
            # Beyond the limits nothing counts, and far beyond them exp has no number.
            return np.exp(np.clip(scores, math.log(low), math.log(high)))

        return self.measure(params, self.learn(params), depths)

    def learn(self, params: Params) -> dict[float, Learnt]:
        """What is learnt from each fraction of the images; all processes must call it.

        Raises:
          RunFailed: if too many images are corrupt, or a token is not finite.
          UserError: if no patch has a depth.
        """
        low, high = self._config.limits

        def logarithms(depth: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
            valid = (depth > low) & (depth < high)
            logs = np.log(np.where(valid, depth, 1), dtype=np.float32)
            return patch_means(np.where(valid, logs, np.nan), grid)[..., None]

        return self._probes.learn(params, 1, logarithms)

    def _check_part(self) -> None:
        """Checks that what counts is a part of the images, before anything is learnt.

        Raises:
          UserError: if the first one is of another size.
        """
        if self._config.part == "all" or not len(self._images.test):
            return
        with contextlib.suppress(CorruptImage):
            size = self._images.test.read(0)[ARRAY].shape
            if size != EIGEN.size:
                raise UserError(
                    f"{self._images.test.describe(0)} is {pixels(size)}, but part=eigen is of "
                    f"images of {pixels(EIGEN.size)}; give config.evals.{self._name}.part=all"
                )

    def measure(
        self, params: Params, learnt: Mapping[float, Learnt], depths: OutputsOf
    ) -> dict[str, float]:
        """Figures of what was learnt, by fraction; all processes must call it.

        Args:
          params: of the model.
          learnt: by fraction.
          depths: makes depths [rows, columns, 1] of scores.

        Raises:
          RunFailed: if too many images are corrupt, or a prediction is not finite.
        """
        errors: dict[float, list[dict[str, float]]] = {fraction: [] for fraction in learnt}
        pictures, most = self._probes.pictures(), max(learnt)
        for image, predicted in self._probes.predict(params, learnt, depths):
            depth, source = image.example[ARRAY], self._images.test.describe(image.index)
            for fraction, one in predicted.items():
                found = resize_bilinear(one, depth.shape)[..., 0]
                figures = depth_errors(
                    found,
                    depth,
                    limits=self._config.limits,
                    crop=EIGEN if self._config.part == "eigen" else None,
                    source=source,
                )
                errors[fraction].append(figures)
                if fraction == most and pictures.wants(image.index, -figures["rmse"]):
                    name = self._images.test.name(image.index)
                    truth, told = _shown(depth, found, self._config.limits)
                    score = -figures["rmse"]
                    pictures.show(image, Shown(name, image.pixels, truth, told, score))
        self._pictures = pictures.details()
        metrics: dict[str, float] = {}
        for fraction, images in sorted(errors.items(), reverse=True):
            l2 = learnt[fraction].l2
            figures = mean_errors(images) | ({} if l2 is None else {"l2": l2})
            metrics |= named(self._name, fraction, figures)
        some = next(iter(errors.values()))
        self._without = sum(math.isnan(one["rmse"]) for one in some)
        self.missing = frozenset() if f"{self._name}/rmse" in metrics else self._all()
        if self.missing:
            low, high = self._config.limits
            self._notes.say(
                f"{self._name}/rmse and all others missing: no image to predict has a depth "
                f"between {low:g} and {high:g}"
            )
        return metrics

    def _all(self) -> frozenset[str]:
        return frozenset(named(self._name, 1, dict.fromkeys(FIGURES, 0.0)))

    def metrics(self, params: Any, frozen: Any = None) -> frozenset[str]:
        """What a call may find."""
        del params, frozen
        return self._probes.may_find((*FIGURES, *(f"aligned/{name}" for name in FIGURES)))

    def seen(self) -> list[str]:
        """How many images the last call has predicted, and learnt from."""
        return [f"{self.predicted()}; {self._probes.learnt_from()}"]

    def predicted(self) -> str:
        """How many images the last call has predicted."""
        without = f"{self._without:,} without a depth left out" if self._without else ""
        return self._probes.predicted(without)

    def about(self) -> dict[str, Any]:
        """The images, how they are shown, and pictures."""
        details = {
            # Of an error, less is better, and a ratio would read as if more were.
            "figures": [name for name in FIGURES if name.startswith("delta")],
            "pictures": self._pictures,
        }
        return {**self._probes.about(), "details": details}


def _shown(
    depth: np.ndarray, predicted: np.ndarray, limits: tuple[float, float]
) -> Iterator[np.ndarray]:
    """Depth and prediction between an image's nearest and farthest, uint8: 1 to 255, 0 unknown."""
    low, high = limits
    valid = (depth > low) & (depth < high)
    near, far = (depth[valid].min(), depth[valid].max()) if valid.any() else limits
    for array, known in ((depth, valid), (predicted, np.isfinite(predicted))):
        place = (np.where(known, array, near) - near) / (far - near if far > near else 1)
        yield np.where(known, 1 + np.round(254 * np.clip(place, 0, 1)), 0).astype(np.uint8)
