"""Real scans of digits drawn on real photographs, in whole numbers and so exactly.

Photographs and scans are those that scikit-learn ships.
"""

import functools
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from distill.analysis.resizing import resize_bilinear
from distill.data.sources.digits import Digits

PHOTOGRAPHS = ("china.jpg", "flower.jpg")

HEIGHT = 427
"""Of both photographs, in pixels."""

COLUMNS = {"train": (0, 384), "validation": (384, 512), "test": (512, 640)}
"""What of each photograph a split may show, first column and the one after the last. They begin
with blocks of the JPEGs' 16 pixels, which no two splits share."""

LIGHT = 40
"""What is left of the photographs' light where nothing is said, in percent."""

STRENGTH = 2
"""How many times as strong as a scan's ink a digit's cover is, up to `OPAQUE`."""

OPAQUE = 255
"""The cover of a pixel of which nothing behind it is seen."""

# What of a pixel is covered where the digit is its class.
_HALF = 128


class Ground(NamedTuple):
    """A part of a photograph."""

    photograph: int
    """Of `PHOTOGRAPHS`."""
    top: int
    left: int


Ink = tuple[int, int, int]
"""What a digit is drawn with: red, green and blue, up to 255."""


@functools.cache
def photograph(number: int) -> np.ndarray:
    """One of `PHOTOGRAPHS`, uint8 [427, 640, 3].

    Read from scikit-learn's file, as importing scikit-learn takes seconds.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the photographs are in scikit-learn, which is not installed")
    folder = Path(package.origin).parent / "datasets" / "images"
    with Image.open(folder / PHOTOGRAPHS[number]) as image:
        return np.asarray(image.convert("RGB"))


@functools.cache
def scans(split: str) -> Digits:
    """The digits that are drawn in a split."""
    return Digits(split, 1)


@functools.cache
def covers(split: str, side: int) -> np.ndarray:
    """How much of each pixel a split's digits cover, of 255: uint16 [N, side, side].

    A scan is enlarged bilinearly, and its ink made twice as strong.
    """
    ink = scans(split).images[..., 0].astype(np.float32)
    enlarged = resize_bilinear(ink.transpose(1, 2, 0), (side, side)).transpose(2, 0, 1)
    return np.ascontiguousarray(np.minimum(np.rint(STRENGTH * enlarged), OPAQUE).astype(np.uint16))


def draw_ground(ground: Ground, size: int, light: int) -> np.ndarray:
    """The part of a photograph, darkened, uint8 [size, size, 3].

    Args:
      ground: where it begins.
      size: its side, in pixels.
      light: what is left of its light, in percent.
    """
    number, top, left = ground
    part = photograph(number)[top : top + size, left : left + size]
    # At most 255·100 + 50, which 16 bits hold.
    return ((part * np.uint16(light) + np.uint16(50)) // np.uint16(100)).astype(np.uint8)


def draw_digit(
    canvas: np.ndarray, cover: np.ndarray, top: int, left: int, ink: Ink
) -> tuple[slice, slice]:
    """Draws a digit on a canvas, uint8 [height, width, 3], in place; returns which part.

    Args:
      canvas: what it is drawn on.
      cover: of `covers`, uint16 [side, side].
      top: of the digit, in pixels.
      left: of the digit, in pixels.
      ink: what it is drawn with.
    """
    side = len(cover)
    part = slice(top, top + side), slice(left, left + side)
    weight = cover[..., None]
    # At most 255² + 127, which 16 bits hold.
    mixed = canvas[part] * (OPAQUE - weight) + weight * np.array(ink, np.uint16) + np.uint16(127)
    canvas[part] = mixed // np.uint16(OPAQUE)
    return part


def shown(cover: np.ndarray) -> np.ndarray:
    """Which pixels are the digit's, bool: those that it covers by half or more."""
    return cover >= _HALF


def in_channels(canvas: np.ndarray, channels: int) -> np.ndarray:
    """A canvas, uint8 [height, width, 3], in colour, or in grey as Pillow makes it of colours."""
    if channels == 3:
        return canvas
    return np.asarray(Image.fromarray(canvas).convert("L"))[..., None]


def draw_ink(rng: np.random.Generator) -> Ink:
    """Draws a bright colour: 160 to 255 in each channel."""
    red, green, blue = rng.integers(160, 256, size=3).tolist()
    return red, green, blue


def draw_place(rng: np.random.Generator, split: str, size: int) -> Ground:
    """Draws a part of a photograph that a split may show."""
    first, end = COLUMNS[split]
    highest = (len(PHOTOGRAPHS), HEIGHT - size + 1, end - size + 1)
    return Ground(*rng.integers((0, 0, first), highest).tolist())
