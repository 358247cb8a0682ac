"""How well the class of each pixel is predicted, and fractions of a set to learn it from.

The convention of ADE20k's and Cityscapes' benchmarks, as in mmsegmentation: one confusion matrix
over the pixels of the whole set, each image at the size of its label. Means of images' own figures
are others.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from distill.analysis.resizing import check_size
from distill.errors import UserError


@dataclasses.dataclass(frozen=True)
class PixelConfusion:
    """How many pixels of each of C classes are taken for each; those of images are added by `+`."""

    FIGURES: ClassVar = ("mean_iou", "pixel_accuracy", "mean_class_accuracy")
    """Of all pixels."""

    matrix: np.ndarray
    """int64 [C, C], of pixels labelled with the row's class the column's is predicted of."""

    @classmethod
    def none(cls, classes: int) -> Self:
        """Of no pixels."""
        return cls(np.zeros((classes, classes), np.int64))

    @classmethod
    def of(
        cls,
        prediction: np.ndarray,
        label: np.ndarray,
        classes: int,
        *,
        ignore: int = 255,
        source: str = "the label",
    ) -> Self:
        """Compares a prediction with a label of its size.

        Args:
          prediction: int [height, width]; where the label is ignored it may be anything.
          label: int [height, width].
          classes: C.
          ignore: what the label holds where it says nothing; these pixels count nowhere.
          source: the label's file, for messages.

        Raises:
          UserError: if they differ in size, or a pixel that is not ignored is of no class.
        """
        check_size(prediction, label, source)
        known = _labelled(label, classes, ignore, source)
        _check(prediction, known, classes, f"the prediction for {source}", "")
        cells = label[known].astype(np.int64) * classes + prediction[known]
        return cls(np.bincount(cells, minlength=classes**2).reshape(classes, classes))

    def __add__(self, other: Self) -> Self:
        """Of the pixels of both."""
        return dataclasses.replace(self, matrix=self.matrix + other.matrix)

    def iou(self) -> np.ndarray:
        """Intersection over union of each class, float64 [C]; NaN of one that is nowhere."""
        union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - np.diagonal(self.matrix)
        return _shares(np.diagonal(self.matrix), union)

    def class_accuracy(self) -> np.ndarray:
        """Share of each class's pixels that is found, float64 [C]; NaN of one without pixels."""
        return _shares(np.diagonal(self.matrix), self.matrix.sum(axis=1))

    def figures(self) -> dict[str, float]:
        """`mean_iou`, `pixel_accuracy` and `mean_class_accuracy`; nothing if there are no pixels.

        A class that is neither labelled nor predicted anywhere is in no mean; one that is
        predicted alone counts as 0 in `mean_iou`.
        """
        pixels = self.matrix.sum()
        if not pixels:
            return {}
        values = (
            np.nanmean(self.iou()),
            np.trace(self.matrix) / pixels,
            np.nanmean(self.class_accuracy()),
        )
        return dict(zip(self.FIGURES, map(float, values), strict=True))

    def per_class(self, class_names: Sequence[str]) -> list[dict[str, str | int | float | None]]:
        """A row for each class: `class`, `iou`, `accuracy`, `labelled` and `predicted` pixels.

        Args:
          class_names: of the C classes, in the order of their numbers.
        """
        columns = {
            "class": class_names,
            "iou": _or_none(self.iou()),
            "accuracy": _or_none(self.class_accuracy()),
            "labelled": self.matrix.sum(axis=1).tolist(),
            "predicted": self.matrix.sum(axis=0).tolist(),
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def patch_shares(
    label: np.ndarray,
    grid: tuple[int, int],
    classes: int,
    *,
    ignore: int = 255,
    source: str = "the label",
) -> np.ndarray:
    """What share of each patch's labelled pixels is of each class.

    A pixel belongs to the patch that its centre lies in, so sides need not divide.

    Args:
      label: int [height, width].
      grid: patches in height and width, h and w.
      classes: C.
      ignore: what the label holds where it says nothing.
      source: the label's file, for messages.

    Returns:
      float32 [h, w, C], of sum 1 for each patch; NaN of one without a labelled pixel.

    Raises:
      UserError: if a pixel that is not ignored is of no class.
    """
    known = _labelled(label, classes, ignore, source)
    row, column = (
        (2 * np.arange(side) + 1) * patches // (2 * side)
        for side, patches in zip(label.shape, grid, strict=True)
    )
    patch = row[:, None] * grid[1] + column
    cells = patch[known] * classes + label[known]
    counts = np.bincount(cells, minlength=grid[0] * grid[1] * classes).reshape(*grid, classes)
    return _shares(counts, counts.sum(axis=-1, keepdims=True)).astype(np.float32)


def nested_fractions(count: int, fractions: Sequence[float], seed: int) -> dict[float, np.ndarray]:
    """Which images of a set make up fractions of it; each is part of all larger ones.

    Args:
      count: of the set's images.
      fractions: of 1, each above 0.
      seed: of the order of which all are prefixes.

    Returns:
      Images' numbers for each fraction, int64, in the order in which they were drawn.

    Raises:
      UserError: for another fraction, or one that is no image.
    """
    order = np.random.default_rng(seed).permutation(count)
    sizes = {fraction: round(fraction * count) for fraction in fractions}
    for fraction, size in sizes.items():
        if not 0 < fraction <= 1:
            raise UserError(f"{fraction:g} is no fraction of images; expected above 0, at most 1")
        if not size:
            raise UserError(f"{fraction:g} of {count} images is none; ask for a larger fraction")
    return {fraction: order[:size] for fraction, size in sizes.items()}


def _labelled(label: np.ndarray, classes: int, ignore: int, source: str) -> np.ndarray:
    """Which pixels have a class, bool [height, width]."""
    known = label != ignore
    _check(label, known, classes, source, f", or {ignore} for no class")
    return known


def _check(array: np.ndarray, known: np.ndarray, classes: int, what: str, also: str) -> None:
    wrong = known & ((array < 0) | (array >= classes))
    if wrong.any():
        row, column = np.unravel_index(np.argmax(wrong), wrong.shape)
        raise UserError(
            f"{what} holds {array[row, column]} at row {row}, column {column}; expected 0 to "
            f"{classes - 1}{also}"
        )


def _shares(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    return np.divide(parts, wholes, out=np.full(parts.shape, np.nan), where=wholes > 0)


def _or_none(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]
