"""Views: what of an image a model sees. Host side, uint8 in and out.

A training view is drawn from a generator of its own, keyed by (seed, epoch, index), or by (seed,
epoch, index, 1) where the image has a second view, (seed, epoch, index, 2) what goes with it, and
so does not depend on the order of the data, the number of workers or the number of hosts.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple, get_args

import numpy as np
from PIL import Image

from distill.bounds import CropShare, Ratio, SomeShare, check_fields
from distill.data.fast import Decoder, is_resized, mirror, resize, whole_pixels
from distill.evaluation_view import EvaluationView, Filter, Resize

Box = tuple[float, float, float, float]

_ATTEMPTS = 10
_FILTERS = {by: Image.Resampling[by.upper()] for by in get_args(Filter)}
# Of an image that is resized whole.
_MOST_PIXELS = 2**26


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
    aspect ratio, resized to a square, mirrored half of the time.

    Where `filter`, `eval_crop` or `eval_resize` is None, a student is shown images as its teachers
    are, if they all are shown them in one way, and any other model as `EvaluationView` has it.

    Raises:
      ValueError: for ranges that are empty or out of bounds.
    """

    crop_area: tuple[SomeShare, SomeShare] = (0.05, 1.0)
    """Smallest and largest share of the image's area."""
    crop_ratio: tuple[Ratio, Ratio] = (3 / 4, 4 / 3)
    """Smallest and largest ratio of width to height."""
    flip: bool = True
    filter: Filter | None = None
    """By which images are resized."""
    eval_crop: CropShare | None = None
    """Side of the central evaluation crop over that of the resized image's shorter side."""
    eval_resize: Resize | None = None
    """How images are resized to be evaluated on: with their ratio of width to height kept, or
    squashed to a square."""

    def __post_init__(self):
        check_fields(self)
        low, high = self.crop_area
        if low > high:
            raise ValueError(f"crop_area must satisfy low <= high, not {self.crop_area}")
        low, high = self.crop_ratio
        if low > high:
            raise ValueError(f"crop_ratio must satisfy low <= high, not {self.crop_ratio}")

    @functools.cached_property
    def evaluation(self) -> EvaluationView:
        """How images are shown in evaluations."""
        return EvaluationView(**{key: value for key, value in self._said.items() if value})

    def completed(self, view: EvaluationView) -> "ViewConfig":
        """With what `view` says where nothing is said here."""
        said = {key: getattr(view, key) if v is None else v for key, v in self._said.items()}
        return dataclasses.replace(
            self,
            filter=said["filter"],
            eval_crop=said["crop"],
            eval_resize=said["resize"],
        )

    @property
    def _said(self) -> dict[str, Any]:
        return {"crop": self.eval_crop, "resize": self.eval_resize, "filter": self.filter}


def generator(seed: int, epoch: int, index: int, *view: int) -> np.random.Generator:
    """The random numbers of one view of one image.

    Args:
      seed: of the run.
      epoch: from 0.
      index: of the image.
      view: 1 for a second view, 2 for what goes with the image; nothing for the first view.
    """
    key = (seed, epoch, index, *view)
    # The words that NumPy makes of such numbers itself, which takes it longer.
    words = np.array(key, np.uint32) if max(key) < 2**32 else key
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def training_view(
    image: np.ndarray,
    size: int,
    config: ViewConfig,
    rng: np.random.Generator,
    decoder: Decoder = "pillow",
) -> np.ndarray:
    """Draws a view, uint8 [size, size, C], of an image, uint8 [height, width, C]."""
    height, width = image.shape[:2]
    view = draw_view(height, width, config, rng, decoder)
    return cut_view(image, view, size, config.evaluation.filter, decoder)


def draw_view(
    height: int,
    width: int,
    config: ViewConfig,
    rng: np.random.Generator,
    decoder: Decoder = "pillow",
) -> View:
    """Draws a training view of an image of this size; only Pillow cuts through pixels."""
    box = inception_box(height, width, config, rng)
    if decoder == "fast" and is_resized(height, width):
        box = whole_pixels(box, height, width)
    return View(box, bool(config.flip and rng.random() < 0.5))


def cut_view(
    image: np.ndarray,
    view: View,
    size: int,
    by: Filter,
    decoder: Decoder = "pillow",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """The view of an image, uint8 [height, width, C], as uint8 [size, size, C].

    Args:
      image: any object of this shape whose parts can be taken as `image[top:bottom, left:right]`.
      view: drawn for the same decoder.
      size: side of the result.
      by: the filter; OpenCV's, where it resizes, stands for `bilinear` only.
      decoder: what resizes.
      out: where the result may be written, C-contiguous; it is if that is what is returned.
    """
    if not (decoder == "fast" and by == "bilinear" and is_resized(*image.shape[:2])):
        cut = resize_box(image, view.box, (size, size), by)
        return cut[:, ::-1] if view.flip else cut
    left, top, right, bottom = map(int, view.box)
    part = image[top:bottom, left:right]
    if not view.flip:
        return resize(part, (size, size), out)
    return mirror(resize(part, (size, size)), out)


def evaluation_view(image: np.ndarray, size: int, view: EvaluationView) -> np.ndarray:
    """Resizes an image, uint8 [height, width, C], and cuts the centre, uint8 [size, size, C].

    With Pillow the pixels are those of transformers and timm, to the bit.
    """
    height, width = image.shape[:2]
    resized = view.resized(height, width, size + view.unseen)
    top, left = (view.begins(side, size + view.unseen) for side in resized)
    if math.prod(resized) <= _MOST_PIXELS:
        whole = resize_box(image, (0, 0, width, height), resized, view.filter)
        return whole[top : top + size, left : left + size]
    # Of a strip a few pixels high, only what is seen: the filter may round otherwise.
    across, down = width / resized[1], height / resized[0]
    bottom, right = min((top + size) * down, height), min((left + size) * across, width)
    box = (left * across, top * down, right, bottom)
    return resize_box(image, box, (size, size), view.filter)


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


def resize_box(image: np.ndarray, box: Box, size: tuple[int, int], by: Filter) -> np.ndarray:
    """Resizes the part of `image` within `box` to `size` (height, width)."""
    grey, image = image.shape[-1] == 1, np.asarray(image)
    if image.shape[:2] == size and box == (0, 0, size[1], size[0]):
        # As Pillow has it, whatever the filter.
        return image
    pixels = Image.fromarray(image[..., 0] if grey else image)
    resized = np.asarray(pixels.resize((size[1], size[0]), _FILTERS[by], box=box))
    return resized[..., None] if grey else resized
