"""Sequences whose frames are files, each with a number in its name."""

import os
import re
from collections.abc import Iterable, Sequence

import numpy as np

from distill.data.sources.base import (
    CorruptImage,
    Source,
    count,
    fingerprint_of,
    is_remote,
    version_of,
)
from distill.data.spec import Example

_NUMBER = re.compile(r"\d+(?=\D*$)")


def in_order(names: Iterable[str]) -> list[str]:
    """A sequence's files by the last number in their names, or by name where one has none."""
    names = list(names)
    numbers = [_NUMBER.search(os.path.splitext(os.path.basename(name))[0]) for name in names]
    if not all(numbers):
        return sorted(names)
    keys = [(int(one[0]), name) for one, name in zip(numbers, names, strict=True) if one]
    return [name for _, name in sorted(keys)]


class FrameFiles:
    """Sequences of the images of a source.

    Args:
      images: of all sequences, one sequence after another.
      lengths: how many images each has.
      names: of the sequences.
      labels: of the sequences, int32 [N]; None where they have none.
      class_names: in order; empty where they have none.
      root: that names are below, for people.
      left_out: what was, for people; empty if nothing.
    """

    decodes_from_start = False

    def __init__(
        self,
        images: Source,
        lengths: Sequence[int],
        names: Sequence[str],
        *,
        root: str,
        labels: np.ndarray | None = None,
        class_names: tuple[str, ...] = (),
        left_out: str = "",
    ):
        self.class_names, self.spec = class_names, images.spec
        self.labels = np.full(len(names), -1, np.int32) if labels is None else labels
        """Of the sequences, int32 [N], −1 for one without."""
        self._images, self._names, self._root = images, tuple(names), root
        self._ends = np.cumsum(lengths)
        self._left_out = left_out

    def __len__(self) -> int:
        return len(self._names)

    def frames(self, index: int) -> int:
        """How many frames a sequence has."""
        return int(self._ends[index]) - self._start(index)

    def _start(self, index: int) -> int:
        return int(self._ends[index - 1]) if index else 0

    def read(self, index: int, frames: Sequence[int] | np.ndarray) -> list[Example]:
        """Reads and decodes the files of frames.

        Raises:
          CorruptImage: if one cannot be decoded.
          RunFailed: if the system cannot read it, or it is not what `spec` says.
          ValueError: if there is no such frame.
        """
        length, start = self.frames(index), self._start(index)
        numbers = [int(frame) for frame in frames]
        if wrong := [one for one in numbers if not 0 <= one < length]:
            raise ValueError(f"{self.describe(index)} has {length} frames, and no frame {wrong[0]}")
        return [self._frame(start + one, self.labels[index]) for one in numbers]

    def _frame(self, place: int, label: np.int32) -> Example:
        try:
            example = self._images.read(place)
            return {**example, "image": np.asarray(example["image"]), "label": label}
        except CorruptImage as error:
            raise CorruptImage(f"{self._images.describe(place)}: {error}") from error

    def describe(self, index: int) -> str:
        """The folder of the sequence."""
        return os.path.join(self._root, self._names[index])

    def name(self, index: int) -> str:
        """The folder's path from the root."""
        return self._names[index]

    @property
    def is_remote(self) -> bool:
        """Whether frames lie in a bucket."""
        return is_remote(self._images)

    @property
    def version(self) -> str:
        """The images'."""
        return version_of(self._images)

    @property
    def found(self) -> str:
        """How many sequences and frames there are, in how many classes."""
        classes = len(self.class_names)
        of = f" in {count(classes, 'class', 'classes')}" if classes else ""
        left_out = f"; left out {self._left_out}" if self._left_out else ""
        said = f"{count(len(self), 'sequence')} of {count(len(self._images), 'frame')}"
        return f"{said}{of}{left_out}"

    @property
    def fingerprint(self) -> str:
        """Of the images' fingerprint, where sequences end, their labels and classes."""
        return fingerprint_of(
            self._images.fingerprint,
            self._ends.astype("<i8").tobytes(),
            self.labels.astype("<i4").tobytes(),
            self.class_names,
        )
