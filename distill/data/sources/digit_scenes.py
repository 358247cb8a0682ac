"""Scenes of two of scikit-learn's handwritten digits, with captions."""

from typing import ClassVar, NamedTuple

import numpy as np

from distill.data.sources.base import MissingSplit, Source, fingerprint_of, labelled
from distill.data.sources.digits import SCAN, Digits
from distill.data.sources.formats import Format, Request
from distill.data.sources.splits import open_parts
from distill.data.spec import Example, labelled_images

_WORDS = ("a zero", "a one", "a two", "a three", "a four", "a five", "a six", "a seven")
WORDS = (*_WORDS, "an eight", "a nine")
"""What captions call digits."""

RELATIONS = (("left of", "right of"), ("above", "below"))
"""What captions call a place and its opposite."""

SIDE, CELL = 30, 10
"""Of a scene and of each of its 3 × 3 cells, in pixels."""

_SEED = 0
# By relation and digit, row and column: the middle of each side.
_CELLS = np.array([[(1, 0), (1, 2)], [(0, 1), (2, 1)]])


class Combination(NamedTuple):
    """What a scene shows: one digit that is left of, or above, the other."""

    one: int
    other: int
    relation: int
    """Of `RELATIONS`."""

    @property
    def is_held_out(self) -> bool:
        """Whether no scene to train on has these two digits: their sum is divisible by 5.

        It is a fifth of all, of which each digit is in each place in two of ten.
        """
        return (self.one + self.other) % 5 == 0

    @property
    def captions(self) -> tuple[str, ...]:
        """Such as "a three left of a seven", and "a three and right of it a seven"."""
        one, other = WORDS[self.one], WORDS[self.other]
        place, opposite = RELATIONS[self.relation]
        return f"{one} {place} {other}", f"{one} and {opposite} it {other}"


COMBINATIONS = tuple(
    Combination(one, other, relation)
    for relation in range(len(RELATIONS))
    for one in range(len(WORDS))
    for other in range(len(WORDS))
)


class _Split(NamedTuple):
    scans: str
    """The split of the digits."""
    held_out: bool
    count: int


class DigitScenes:
    """Two of scikit-learn's handwritten digits on a black ground, 30×30, one beside the other.

    A scene's class is its combination of digits and places, of which there are 200, and its
    captions say the same. In `train`, `validation` and `test` are 160 of them, in
    `heldout_validation` and `heldout_test` the other 40; the scans are those of the splits of
    `Digits`, so that no two of `train`, validation and test share one. A scene depends on its split
    and its number alone: combinations take turns, scans and places are drawn.
    """

    SPLITS: ClassVar = {
        "train": _Split("train", False, 16_000),
        "validation": _Split("validation", False, 1_600),
        "test": _Split("test", False, 1_600),
        "heldout_validation": _Split("validation", True, 800),
        "heldout_test": _Split("test", True, 800),
    }
    class_names = tuple(one.captions[0] for one in COMBINATIONS)

    def __init__(self, split: str, channels: int):
        if split not in self.SPLITS:
            raise MissingSplit(
                f"digit_scenes has no split {split!r}; it has {', '.join(self.SPLITS)}"
            )
        self.spec = labelled_images(channels)
        self._split = split
        of, held_out, count = self.SPLITS[split]
        self._digits = Digits(of, channels)
        self._shown = [n for n, one in enumerate(COMBINATIONS) if one.is_held_out == held_out]
        self.labels = np.resize(np.array(self._shown, np.int32), count)
        rng = np.random.default_rng((_SEED, list(self.SPLITS).index(split)))
        self._scans = self._draw_scans(rng)
        self._images = self._compose(self._draw_places(rng), channels)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Example:
        """The scene and its combination."""
        return {"image": self._images[index], "label": self.labels[index]}

    def captions(self, index: int) -> tuple[str, ...]:
        """What the scene shows, said from each of its digits."""
        return COMBINATIONS[self.labels[index]].captions

    def describe(self, index: int) -> str:
        """The scene's number, and those of its scans in `load_digits()`."""
        one, other = map(self._digits.name, self._scans[index])
        return f"digit_scenes {self._split} scene {index}, of digits images {one} and {other}"

    def name(self, index: int) -> str:
        """The scene's number in its split."""
        return f"{self._split}/{index}"

    @property
    def found(self) -> str:
        """How many scenes there are, and in how many of the classes."""
        return f"{labelled(len(self), len(self._shown))} of {len(self.class_names)}"

    @property
    def fingerprint(self) -> str:
        """Of the split's name; the scenes never change."""
        return fingerprint_of("digit_scenes", self._split)

    def _draw_scans(self, rng: np.random.Generator) -> np.ndarray:
        """Of each scene's two digits, which scan it is, int [N, 2]."""
        by_digit = np.argsort(self._digits.labels, kind="stable")
        counts = np.bincount(self._digits.labels)
        digits = np.array([COMBINATIONS[label][:2] for label in self.labels])
        return by_digit[(np.cumsum(counts) - counts)[digits] + rng.integers(counts[digits])]

    def _draw_places(self, rng: np.random.Generator) -> np.ndarray:
        """Of each scene's two digits, the row and the column of its top left, int [N, 2, 2]."""
        cells = _CELLS[[COMBINATIONS[label].relation for label in self.labels]]
        return cells * CELL + rng.integers(CELL - SCAN + 1, size=cells.shape)

    def _compose(self, places: np.ndarray, channels: int) -> np.ndarray:
        """The scenes, uint8 [N, SIDE, SIDE, C]."""
        images = np.zeros((len(self), SIDE, SIDE, channels), np.uint8)
        scene, row, column = np.ogrid[: len(self), :SCAN, :SCAN]
        for which in range(2):
            top, left = places[:, which, :, None, None].swapaxes(0, 1)
            images[scene, top + row, left + column] = self._digits.images[self._scans[:, which]]
        return images


def _open(request: Request) -> Source:
    return open_parts(request.split, lambda whole: DigitScenes(whole, request.channels))


FORMATS = (Format(name="digit_scenes", open=_open),)
