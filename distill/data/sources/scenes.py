"""Scenes of scikit-learn's digits on its photographs, as many and as hard as asked for."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from distill.data.sources.base import MissingSplit, Source, fingerprint_of, labelled
from distill.data.sources.digits import SCAN
from distill.data.sources.drawing import (
    COLUMNS,
    OPAQUE,
    PHOTOGRAPHS,
    STRENGTH,
    Ground,
    Ink,
    draw_digit,
    draw_ground,
    draw_place,
    in_channels,
    scans,
)
from distill.data.sources.formats import Format, Request
from distill.data.sources.options import whole_number
from distill.data.sources.splits import open_parts
from distill.data.spec import Example, labelled_images

IMAGES = {"train": 20_000, "validation": 1_000, "test": 2_000}
"""How many scenes there are where no number is asked for."""

MOST = 3
"""Digits of a scene."""

HARDEST = 5
"""Of the difficulties, which begin at 0."""

# How far each difficulty goes beyond the one before: turns in steps of 4° to either side, percents
# of a digit's side, levels of its ink, percents of the photograph's light.
_TURNS, _SIDE, _INK, _LIGHT = 2, 6, 24, 14
_DEGREES = 4
# From here on there are parts of other digits behind those that count, one more each time.
_CLUTTERED = 3
# The largest digit of a scene of one, in percents of the scene's side.
_LARGEST_DIGIT = 75
_SEED = 2
# Weights of a turned scan's pixels are whole numbers of this part.
_PARTS = 256


class Piece(NamedTuple):
    """Something of a scene that is drawn: a digit, or clutter."""

    scan: int
    """Its number among the split's digits."""
    side: int
    """Of its square, in pixels."""
    turn: int
    """Against the clock, in steps of 4 degrees."""
    top: int
    left: int
    ink: Ink


class Layout(NamedTuple):
    """What is where in a scene."""

    ground: Ground
    clutter: tuple[Piece, ...]
    """Behind the digits, half as strong."""
    digits: tuple[Piece, ...]
    """From left to right."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a user says of the scenes, each a whole number."""

    digits: int
    """How many stand side by side."""
    size: int
    """Side of a scene, in pixels."""
    images: int
    difficulty: int
    seed: int
    """Another one draws other scenes of the same scans and photographs."""


class Scenes:
    """Real digits side by side on a real photograph; what they are, from left to right, is a class.

    So there are 10 classes of one digit, 100 of two and 1,000 of three. The harder scenes are, the
    more digits are turned, differ in size and fade, and the more of the photograph's light and of
    other digits is behind them; see docs/data.md.

    What is where depends on the split, the scene's number and the options but `images` alone, and
    is drawn when it is read, in whole numbers. The scans are those of the splits of `Digits`, and
    each split has parts of the photographs of its own, so that no two share a scan or a pixel.

    Args:
      split: `train`, `validation` or `test`.
      channels: 1 for grey or 3 for colour.
      options: which scenes.

    Raises:
      MissingSplit: if there is no such split.
    """

    def __init__(self, split: str, channels: int, options: Options):
        if split not in COLUMNS:
            raise MissingSplit(f"scenes has no split {split!r}; it has {', '.join(COLUMNS)}")
        self._split, self._channels, self._options = split, channels, options
        self._words = (
            _SEED,
            list(COLUMNS).index(split),
            options.seed,
            options.size,
            options.difficulty,
            options.digits,
        )
        self.spec = labelled_images(channels)
        self.class_names = tuple(
            "".join(shown) for shown in itertools.product("0123456789", repeat=options.digits)
        )
        every = scans(split).labels
        shape = (options.images, options.digits)
        self._scans = np.random.default_rng(self._words).integers(len(every), size=shape)
        powers = 10 ** np.arange(options.digits)[::-1]
        self.labels = (every[self._scans] @ powers).astype(np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def layout(self, index: int) -> Layout:
        """What is where in a scene."""
        size, difficulty = self._options.size, self._options.difficulty
        words = np.array((*self._words, index), np.uint32)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
        ground = draw_place(rng, self._split, size)
        clutter = tuple(
            self._piece(rng, int(rng.integers(len(scans(self._split)))), 0, size)
            for _ in range(max(0, difficulty + 1 - _CLUTTERED))
        )
        column = size // self._options.digits
        digits = tuple(
            self._piece(rng, int(scan), number * column, column)
            for number, scan in enumerate(self._scans[index])
        )
        return Layout(ground, clutter, digits)

    def _piece(self, rng: np.random.Generator, scan: int, left: int, width: int) -> Piece:
        """One that lies between two columns."""
        size, difficulty = self._options.size, self._options.difficulty
        largest = min(size // self._options.digits, size * _LARGEST_DIGIT // 100)
        smallest = largest * (100 - _SIDE * difficulty) // 100
        side = int(rng.integers(smallest, largest, endpoint=True))
        turn = int(rng.integers(-_TURNS * difficulty, _TURNS * difficulty, endpoint=True))
        top = int(rng.integers(size - side, endpoint=True))
        left += int(rng.integers(width - side, endpoint=True))
        red, green, blue = rng.integers(OPAQUE - _INK * difficulty, OPAQUE + 1, size=3).tolist()
        return Piece(scan, side, turn, top, left, (red, green, blue))

    def read(self, index: int) -> Example:
        """The scene and its class."""
        ground, clutter, digits = self.layout(index)
        canvas = draw_ground(ground, self._options.size, _LIGHT * self._options.difficulty)
        for pieces, part in ((clutter, 2), (digits, 1)):
            for piece in pieces:
                draw_digit(canvas, self._cover(piece) // part, piece.top, piece.left, piece.ink)
        return {"image": in_channels(canvas, self._channels), "label": self.labels[index]}

    def _cover(self, piece: Piece) -> np.ndarray:
        """How much of each pixel it covers, of 255: uint16 [side, side]."""
        ink = scans(self._split).images[piece.scan, :, :, 0].ravel().astype(np.int32)
        turned = (ink @ _turning(piece.side, piece.turn)) // _PARTS
        return np.minimum(STRENGTH * turned, OPAQUE).astype(np.uint16).reshape(2 * (piece.side,))

    def describe(self, index: int) -> str:
        """The scene's number, those of its scans in `load_digits()`, and where its ground is."""
        ground, _, digits = self.layout(index)
        numbers = ", ".join(scans(self._split).name(piece.scan) for piece in digits)
        return (
            f"scenes {self._split} scene {index}, of digits images {numbers} on "
            f"{PHOTOGRAPHS[ground.photograph]} from row {ground.top}, column {ground.left}"
        )

    def name(self, index: int) -> str:
        """The scene's number in its split."""
        return f"{self._split}/{index}"

    @property
    def found(self) -> str:
        """How many scenes and classes there are."""
        return labelled(len(self), len(self.class_names))

    @property
    def fingerprint(self) -> str:
        """Of the split's name and the options; the scenes never change."""
        return fingerprint_of("scenes", self._split, dataclasses.asdict(self._options))

    def slicing_order(self) -> np.ndarray:
        """Their own order."""
        return np.arange(len(self))


@functools.lru_cache(maxsize=1024)
def _turning(side: int, turn: int) -> np.ndarray:
    """What each pixel of a scan is worth in each of its turned and enlarged square, of 256.

    Int32 [64, side²]: bilinear, with nothing beyond the scan's edge; of a turned scan the square
    cuts the corners off, where there is hardly any ink.
    """
    angle = np.deg2rad(_DEGREES * turn)
    middle = (np.arange(side) + 0.5) / side - 0.5
    down, right = np.meshgrid(middle, middle, indexing="ij")
    row = (np.cos(angle) * down + np.sin(angle) * right) * SCAN + (SCAN - 1) / 2
    column = (np.cos(angle) * right - np.sin(angle) * down) * SCAN + (SCAN - 1) / 2
    rows, columns = (
        np.maximum(0, 1 - np.abs(place.ravel() - np.arange(SCAN)[:, None]))
        for place in (row, column)
    )
    weights = rows[:, None] * columns[None]
    return np.rint(_PARTS * weights).astype(np.int32).reshape(SCAN * SCAN, side * side)


_OPTIONS = {
    "digits": "NUMBER",
    "size": "PIXELS",
    "images": "NUMBER",
    "difficulty": "NUMBER",
    "seed": "NUMBER",
}
# Of scenes of so many digits where nothing is said.
_SIZES = {1: 16, 2: 24, 3: 36}
# Digits have at least as many pixels as their scans; and what a split's part of a photograph is.
_LARGEST = 128


def _read_options(said: Mapping[str, str], split: str) -> Options:
    digits = whole_number(said, "digits", 2, 1, MOST)
    return Options(
        digits=digits,
        size=whole_number(said, "size", _SIZES[digits], SCAN * digits, _LARGEST),
        images=whole_number(said, "images", IMAGES.get(split, 1), 1, 2**31 - 1),
        difficulty=whole_number(said, "difficulty", 2, 0, HARDEST),
        seed=whole_number(said, "seed", 0, 0, 2**31 - 1),
    )


def _open(request: Request) -> Source:
    return open_parts(
        request.split,
        lambda whole: Scenes(whole, request.channels, _read_options(request.options, whole)),
    )


FORMATS = (Format(name="scenes", options=_OPTIONS, open=_open),)
