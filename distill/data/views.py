"""Views: what of an image a model sees. Host side, uint8 in and out.

A training view is drawn from a generator of its own, keyed by (seed, epoch, index), or by (seed,
epoch, index, 1) where the image has a second view, and so does not depend on the order of the data,
the number of workers or the number of hosts.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]

_ATTEMPTS = 10


class View(NamedTuple):
    """What is cut out of an image, and whether it is mirrored."""

    box: Box
    """Left, top, right and bottom in pixels, not necessarily whole."""
    flip: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """How training views are drawn and evaluation views are cut.

    The inception crop of arXiv 1409.4842 as "Scaling Vision Transformers" and "A good teacher is
    patient and consistent" use it: a box with a random share of the image's area and a random
    aspect ratio, resized bilinearly to a square, mirrored half of the time.

    Raises:
      ValueError: for ranges that are empty or out of bounds.
    """

    crop_area: tuple[float, float] = (0.05, 1.0)
    """Smallest and largest share of the image's area."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest ratio of width to height."""
    flip: bool = True
    eval_crop: float = 0.875
    """Side of the central evaluation crop over the resized image's smaller side."""

    def __post_init__(self):
        low, high = self.crop_area
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_area must satisfy 0 < low <= high <= 1, not {self.crop_area}")
        low, high = self.crop_ratio
        if not 0 < low <= high:
            raise ValueError(f"crop_ratio must satisfy 0 < low <= high, not {self.crop_ratio}")
        if not 0 < self.eval_crop <= 1:
            raise ValueError(f"eval_crop must be in (0, 1], not {self.eval_crop}")


def generator(seed: int, epoch: int, index: int, *view: int) -> np.random.Generator:
    """The random numbers of one view of one image; `view` names others than the first."""
    return np.random.default_rng((seed, epoch, index, *view))


def training_view(
    image: np.ndarray, size: int, config: ViewConfig, rng: np.random.Generator
) -> np.ndarray:
    """Draws a view, uint8 [size, size, C], of an image, uint8 [height, width, C]."""
    return cut_view(image, draw_view(*image.shape[:2], config, rng), size)


def draw_view(height: int, width: int, config: ViewConfig, rng: np.random.Generator) -> View:
    """Draws a training view of an image of this size."""
    box = inception_box(height, width, config, rng)
    return View(box, bool(config.flip and rng.random() < 0.5))


def cut_view(image: np.ndarray, view: View, size: int) -> np.ndarray:
    """The view of an image, uint8 [height, width, C], as uint8 [size, size, C]."""
    cut = resize_box(image, view.box, (size, size))
    return cut[:, ::-1] if view.flip else cut


def evaluation_view(image: np.ndarray, size: int, config: ViewConfig) -> np.ndarray:
    """Resizes the smaller side to size/eval_crop and cuts the centre, uint8 [size, size, C]."""
    height, width = image.shape[:2]
    side = min(height, width) * config.eval_crop
    left, top = (width - side) / 2, (height - side) / 2
    return resize_box(image, (left, top, left + side, top + side), (size, size))


def inception_box(height: int, width: int, config: ViewConfig, rng: np.random.Generator) -> Box:
    """Draws (left, top, right, bottom) in pixels; the whole image if no draw fits."""
    smallest, largest = config.crop_area
    narrowest, widest = (math.log(ratio) for ratio in config.crop_ratio)
    for _ in range(_ATTEMPTS):
        size, shape, across, down = rng.random(4).tolist()
        area = (smallest + (largest - smallest) * size) * height * width
        ratio = math.exp(narrowest + (widest - narrowest) * shape)
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            left, top = (width - w) * across, (height - h) * down
            return left, top, left + w, top + h
    return 0.0, 0.0, float(width), float(height)


def resize_box(image: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """Resizes the part of `image` within `box` to `size` (height, width), bilinear, antialiased."""
    grey = image.shape[-1] == 1
    pixels = Image.fromarray(image[..., 0] if grey else image)
    resized = np.asarray(pixels.resize(size[::-1], Image.Resampling.BILINEAR, box=box))
    return resized[..., None] if grey else resized
