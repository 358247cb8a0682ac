"""Data sets of TensorFlow Datasets that say something of each pixel: masks and depth.

What the numbers of such a feature mean is not recorded with it, so it is said here of each data
set that is known.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from distill.data.sources import depths, masks
from distill.data.sources.base import fingerprint_of
from distill.data.sources.decoding import Decoding
from distill.data.sources.formats import Format, Request
from distill.data.sources.masks import Labels
from distill.data.sources.pixel_values import depth_of
from distill.data.sources.pixelwise import check_not_turned
from distill.data.sources.records import TfdsSource
from distill.data.spec import ArraySpec, Example, MaskSpec, ValuesSpec
from distill.errors import UserError, WrongFile


@dataclasses.dataclass(frozen=True)
class Feature:
    """A feature that says something of each pixel."""

    name: str
    spec: ArraySpec
    decode: Callable[[Any, str], np.ndarray]
    """From what a record holds, and what it is called, to an array as `spec` has it."""
    is_encoded: bool
    """Whether it is an image, of which records hold the file's bytes."""


def _depth(values: Any, what: str) -> np.ndarray:
    return depth_of(np.asarray(values))


_PETS = Labels(MaskSpec(("pet", "background")), first=1, ignored=(3,))

MASKS: dict[str, Feature] = {
    # Trimaps: 1 is the animal, 2 the background, 3 what is between them.
    "oxford_iiit_pet": Feature("segmentation_mask", _PETS.spec, _PETS, is_encoded=True),
}
DEPTHS: dict[str, Feature] = {
    "nyu_depth_v2": Feature("depth", ValuesSpec(), _depth, is_encoded=False),
}
"""Of data sets by name."""

NO_MASKS = {
    "scene_parse150": (
        "is prepared from annotations_instance, coloured masks of instances of 100 categories, and "
        "not from the 150 classes of scene parsing. Download ADEChallengeData2016 and name its "
        "folder: masks:PATH"
    ),
    "voc": (
        "has boxes, and no masks. Download Pascal VOC and name the folder that has JPEGImages and "
        "SegmentationClass: masks:PATH/VOC2012"
    ),
}
"""Data sets whose features look like masks and are not, and why."""


class PixelwiseRecords(TfdsSource):
    """As `TfdsSource`, of a data set one of whose features says something of each pixel.

    Args:
      name: of the data set.
      split: its name, or slices of it.
      decoding: how images become pixels.
      data_dir: where TFDS keeps its data sets; None for its default.
      array: what the feature is called in examples.
      feature: of this data set.
    """

    def __init__(
        self,
        name: str,
        split: str,
        decoding: Decoding,
        data_dir: str | None,
        array: str,
        feature: Feature,
    ):
        encoded = (feature.name,) if feature.is_encoded else ()
        super().__init__(name, split, decoding, data_dir, encoded)
        self.spec = {**self.spec, array: feature.spec}
        self.fingerprint = fingerprint_of(self.fingerprint, array, str(feature.spec))
        self._array, self._feature = array, feature

    def read(self, index: int) -> Example:
        """Reads and decodes the record.

        Raises:
          CorruptImage: if an image in it cannot be decoded.
          RunFailed: if it cannot be read, or, a `WrongFile`, the feature is not as it should be.
        """
        (record,) = self._fetch([index])
        example, name = self._example(record), self._feature.name
        what = f"{name} of {self.describe(index)}"
        array = self._feature.decode(record[name], what)
        if array.shape != (expected := example["image"].shape[:2]):
            raise WrongFile(f"{what} is {[*array.shape]}, but its image {[*expected]}")
        return {**example, self._array: array}


def _opener(
    array: str, features: Mapping[str, Feature], folders: str, refused: Mapping[str, str] = {}
) -> Callable[[Request], PixelwiseRecords]:
    """Opens data sets of some features; `folders` is the format of files that hold the same."""

    def opened(request: Request) -> PixelwiseRecords:
        name = request.argument
        known = re.split("[/:]", name)[0]
        if known in refused:
            raise UserError(f"TFDS data set {name!r} {refused[known]}")
        if known not in features:
            raise UserError(
                f"what TFDS data set {name!r} says of each pixel is not known; tfds_{folders} "
                f"reads {', '.join(features)}. Write the data as files: {folders}:PATH"
            )
        check_not_turned(request.decoding, array)
        return PixelwiseRecords(
            name, request.split, request.decoding, request.data_dir, array, features[known]
        )

    return opened


FORMATS = (
    Format(name="tfds_masks", argument="NAME", open=_opener(masks.NAME, MASKS, "masks", NO_MASKS)),
    Format(name="tfds_depth", argument="NAME", open=_opener(depths.NAME, DEPTHS, "depth")),
)
