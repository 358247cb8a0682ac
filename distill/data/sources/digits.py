"""Scikit-learn's handwritten digits."""

import functools
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from distill.data.sources.base import MissingSplit, Source, fingerprint_of, labelled
from distill.data.sources.formats import Format, Request
from distill.data.sources.splits import open_parts
from distill.data.spec import Example, labelled_images

SCAN = 8
"""Side of a scan, in pixels."""


class Digits:
    """Scikit-learn's handwritten digits: 1797 real scans, 8×8, shipped with the package.

    The split is fixed: 1197 train, 240 validation and 360 test images, each with the classes in
    the same proportions (E. Alpaydin and C. Kaynak, UCI, 1998).
    """

    SIZES: ClassVar = {"train": 1197, "validation": 240, "test": 360}
    class_names = tuple("0123456789")

    def __init__(self, split: str, channels: int):
        if split not in self.SIZES:
            raise MissingSplit(f"digits has no split {split!r}; it has {', '.join(self.SIZES)}")
        self.spec = labelled_images(channels)
        self._split = split
        scans, digits = _load()
        ends = np.cumsum(list(self.SIZES.values()))
        parts = dict(zip(self.SIZES, np.split(_stratified_order(digits), ends[:-1]), strict=True))
        self._numbers = np.sort(parts[split])
        # 17 grey levels, 0 to 16.
        images = np.round(scans[self._numbers] * (255 / 16)).astype(np.uint8)
        self.images = np.repeat(images[..., None], channels, axis=-1)
        """All scans, uint8 [N, 8, 8, C]."""
        self.labels = digits[self._numbers].astype(np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Example:
        """The scan and its digit."""
        return {"image": self.images[index], "label": self.labels[index]}

    def describe(self, index: int) -> str:
        """The scan's number in `load_digits()`."""
        return f"digits image {self._numbers[index]}"

    def name(self, index: int) -> str:
        """The scan's number in `load_digits()`."""
        return str(self._numbers[index])

    @property
    def found(self) -> str:
        """How many images and classes there are."""
        return labelled(len(self), len(self.class_names))

    @property
    def fingerprint(self) -> str:
        """Of the split's name; the scans never change."""
        return fingerprint_of("digits", self._split)

    def slicing_order(self) -> np.ndarray:
        """Their own order."""
        return np.arange(len(self))


@functools.cache
def _load() -> tuple[np.ndarray, np.ndarray]:
    """The scans, [1797, 8, 8] of 0 to 16, and their digits, as `load_digits()` has them.

    Read from scikit-learn's file, as importing scikit-learn takes seconds.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the digits are in scikit-learn, which is not installed")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    rows = np.loadtxt(file, delimiter=",")
    return rows[:, :-1].reshape(-1, SCAN, SCAN), rows[:, -1].astype(int)


def _stratified_order(labels: np.ndarray) -> np.ndarray:
    """A fixed order of all indices in which every stretch holds the classes in proportion."""
    rng = np.random.default_rng(0)
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(position, kind="stable")


def _open(request: Request) -> Source:
    return open_parts(request.split, lambda whole: Digits(whole, request.channels))


FORMATS = (Format(name="digits", open=_open),)
