"""Scenes of some of scikit-learn's digits on photographs, with masks and depth on demand."""

import dataclasses
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from distill.data.sources import depths, masks
from distill.data.sources.base import MissingSplit, Source, count, fingerprint_of
from distill.data.sources.drawing import (
    COLUMNS,
    LIGHT,
    PHOTOGRAPHS,
    Ground,
    Ink,
    covers,
    draw_digit,
    draw_ground,
    draw_ink,
    draw_place,
    in_channels,
    scans,
    shown,
)
from distill.data.sources.formats import Format, Request
from distill.data.sources.options import whole_number
from distill.data.sources.splits import open_parts
from distill.data.spec import (
    ClassesSpec,
    Example,
    ExampleSpec,
    ImageSpec,
    MaskSpec,
    ValuesSpec,
    labelled_images,
)

SIDES = (16, 14, 12)
"""Of digits in layers 1, 2 and 3, in pixels: what is nearer is larger."""

BACKGROUND = 4
"""The layer of the photograph."""

MASKS = MaskSpec(("background", *"0123456789"))
"""What masks hold: 0 for the background, 1 more than itself for a digit."""

IMAGES = {"train": 20_000, "validation": 1_000, "test": 2_000}
"""How many scenes there are where no number is asked for."""

# A scene of this side has one to three digits, and a smaller one has one.
_CELL, _MOST = 32, 3
_SMALLEST = 16
# Where digits begin if nothing is said: in smaller scenes there would be no choice.
_STEP, _SMALL_STEP = 12, 2
# Of the smaller one of two digits' squares; layers that are the same do not overlap.
_OVERLAP = 1 / 3
_TRIES = 32
_SEED = 1

Also = Literal["classes", "masks", "depth"]
"""What an example holds beside its image."""


class Piece(NamedTuple):
    """A digit of a scene."""

    scan: int
    """Its number among the split's digits."""
    layer: int
    """1 is in front of 2, and 2 of 3."""
    top: int
    left: int
    ink: Ink

    @property
    def side(self) -> int:
        """Of its square, in pixels."""
        return SIDES[self.layer - 1]


class Layout(NamedTuple):
    """What is where in a scene."""

    ground: Ground
    pieces: tuple[Piece, ...]
    """In the order in which they are drawn: the farthest first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a user says of the scenes, each a whole number."""

    size: int
    """Side of a scene, in pixels."""
    images: int
    light: int
    """What is left of the photographs' light, in percent; the digits are bright."""
    step: int
    """Digits begin in rows and columns whose numbers are multiples of it."""


class TexturedScenes:
    """One to three real digits on a real photograph, 32×32, or as densely in larger scenes.

    A smaller scene has one digit, which is its label.

    Each digit is in one of three layers, of which the nearer ones are drawn larger and over the
    others; digits overlap by at most a third of the smaller one's square, those of one layer not
    at all. What is where depends on the split, the scene's number, size and step alone, and is
    drawn when it is read. The scans are those of the splits of `Digits`, and each split has parts
    of the photographs of its own, so that no two share a scan or a pixel.

    Args:
      split: `train`, `validation` or `test`.
      channels: 1 for grey or 3 for colour.
      options: which scenes.
      also: what there is beside the image: `classes`, float32 [10], which digits are there, or of
        scenes of one digit its `label`; of each
        pixel its class, as `masks:` has it; or its layer as its depth, as `depth:` has it.

    Raises:
      MissingSplit: if there is no such split.
    """

    def __init__(self, split: str, channels: int, options: Options, also: Also = "classes"):
        if split not in COLUMNS:
            raise MissingSplit(
                f"textured_scenes has no split {split!r}; it has {', '.join(COLUMNS)}"
            )
        self._split, self._channels = split, channels
        self._options, self._also = options, also
        self._key = list(COLUMNS).index(split)
        self._covers = [covers(split, side) for side in SIDES]
        self._digits = scans(split).labels
        self.class_names = scans(split).class_names if also == "classes" else ()
        self._of_one = options.size < _CELL
        self.spec = _spec(channels, also, self._of_one)
        self.labels = np.full(options.images, -1, np.int32)
        if self._of_one:
            rng = np.random.default_rng((_SEED, self._key, options.size))
            self._scans = rng.integers(len(self._digits), size=options.images)
            if also == "classes":
                self.labels = self._digits[self._scans].astype(np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def layout(self, index: int) -> Layout:
        """What is where in a scene."""
        size, step = self._options.size, self._options.step
        words = np.array((_SEED, self._key, index, size), np.uint32)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
        ground = draw_place(rng, self._split, size)
        cells = (size / _CELL) ** 2
        wanted = 1
        if not self._of_one:
            wanted = int(rng.integers(round(cells), round(_MOST * cells), endpoint=True))
        pieces: list[Piece] = []
        layers = [layer for _ in range(-(-wanted // _MOST)) for layer in rng.permutation(_MOST)]
        for layer in sorted(layers[:wanted]):
            scan = int(self._scans[index] if self._of_one else rng.integers(len(self._digits)))
            ink = draw_ink(rng)
            most = (size - SIDES[layer]) // step
            places = step * rng.integers(most, size=(_TRIES, 2), endpoint=True)
            tried = (Piece(scan, int(layer) + 1, top, left, ink) for top, left in places.tolist())
            found = next((one for one in tried if _fits(one, pieces)), None)
            # Where scenes are full already there is one digit less.
            if found is not None:
                pieces.append(found)
        return Layout(ground, tuple(reversed(pieces)))

    def read(self, index: int) -> Example:
        """The scene and what goes with it."""
        options, (ground, pieces) = self._options, self.layout(index)
        canvas = draw_ground(ground, options.size, options.light)
        pixels = self._pixels()
        for piece in pieces:
            cover = self._covers[piece.layer - 1][piece.scan]
            part = draw_digit(canvas, cover, piece.top, piece.left, piece.ink)
            if pixels is not None:
                is_depth = self._also == "depth"
                value = piece.layer if is_depth else self._digits[piece.scan] + 1
                pixels[part][shown(cover)] = value
        image = in_channels(canvas, self._channels)
        if pixels is None and self._of_one:
            return {"image": image, "label": self.labels[index]}
        if pixels is None:
            classes = np.zeros(10, np.float32)
            classes[[self._digits[piece.scan] for piece in pieces]] = 1
            return {"image": image, "classes": classes}
        name = masks.NAME if self._also == "masks" else depths.NAME
        return {"image": image, "label": self.labels[index], name: pixels}

    def _pixels(self) -> np.ndarray | None:
        size = (self._options.size, self._options.size)
        if self._also == "classes":
            return None
        if self._also == "masks":
            return np.zeros(size, MASKS.dtype)
        return np.full(size, BACKGROUND, np.float32)

    def describe(self, index: int) -> str:
        """The scene's number, those of its scans in `load_digits()`, and where its ground is."""
        ground, pieces = self.layout(index)
        numbers = ", ".join(scans(self._split).name(piece.scan) for piece in pieces)
        return (
            f"textured_scenes {self._split} scene {index}, of digits images {numbers} on "
            f"{PHOTOGRAPHS[ground.photograph]} from row {ground.top}, column {ground.left}"
        )

    def name(self, index: int) -> str:
        """The scene's number in its split."""
        return f"{self._split}/{index}"

    @property
    def found(self) -> str:
        """How many scenes there are, and what goes with them."""
        also = {
            "classes": "in 10 classes" if self._of_one else "of 10 classes, several each",
            "masks": f"with masks of {len(MASKS.class_names)} classes",
            "depth": "with their layers as depth",
        }
        return f"{count(len(self), 'image')} {also[self._also]}"

    @property
    def fingerprint(self) -> str:
        """Of the split's name, the options, and what there is; the scenes never change."""
        asked = dataclasses.asdict(self._options)
        return fingerprint_of("textured_scenes", self._split, self._also, asked)

    def slicing_order(self) -> np.ndarray:
        """Their own order."""
        return np.arange(len(self))


def _spec(channels: int, also: Also, of_one: bool) -> ExampleSpec:
    if also == "classes" and of_one:
        return labelled_images(channels)
    if also == "classes":
        return {"image": ImageSpec(channels), "classes": ClassesSpec(10)}
    if also == "masks":
        return {**labelled_images(channels), masks.NAME: MASKS}
    return {**labelled_images(channels), depths.NAME: ValuesSpec()}


def _fits(piece: Piece, others: list[Piece]) -> bool:
    """Whether it overlaps none of the others by more than it may."""
    for other in others:
        height = min(piece.top + piece.side, other.top + other.side) - max(piece.top, other.top)
        width = min(piece.left + piece.side, other.left + other.side) - max(piece.left, other.left)
        if height > 0 and width > 0:
            allowed = 0 if piece.layer == other.layer else _OVERLAP
            if height * width > allowed * min(piece.side, other.side) ** 2:
                return False
    return True


_OPTIONS = {"size": "PIXELS", "images": "NUMBER", "light": "PERCENT", "step": "PIXELS"}
# What one side of a split's part of a photograph is.
_LARGEST = 128


def _read_options(said: Mapping[str, str], split: str) -> Options:
    size = whole_number(said, "size", _CELL, _SMALLEST, _LARGEST)
    return Options(
        size=size,
        images=whole_number(said, "images", IMAGES.get(split, 1), 1, 2**31 - 1),
        light=whole_number(said, "light", LIGHT, 0, 100),
        step=whole_number(said, "step", _STEP if size >= _CELL else _SMALL_STEP, 1, 16),
    )


def _format(name: str, also: Also) -> Format:
    def opened(request: Request) -> Source:
        return open_parts(
            request.split,
            lambda whole: TexturedScenes(
                whole, request.channels, _read_options(request.options, whole), also
            ),
        )

    return Format(name=name, options=_OPTIONS, open=opened)


FORMATS = (
    _format("textured_scenes", "classes"),
    _format("textured_scenes_masks", "masks"),
    _format("textured_scenes_depth", "depth"),
)
