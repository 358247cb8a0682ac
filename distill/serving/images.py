"""From files and arrays to what a model is shown of them."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill.config.values import shown
from distill.data.sources import CorruptImage
from distill.data.sources.decoding import Decoding, suffixes
from distill.data.sources.scanning import LeftOut, scan
from distill.data.views import evaluation_view
from distill.errors import UserError
from distill.evaluation_view import EvaluationView

_THREADS = 4

Images = str | os.PathLike[str] | np.ndarray | Sequence[Any]
"""A path of an image or a folder, an array uint8 [height, width, C] or [N, height, width, C], or
several of them."""


@dataclasses.dataclass(frozen=True)
class Shown:
    """What of an image a model is shown, before the device sees it."""

    size: int
    """Side of the views, in pixels."""
    channels: int
    """1 for grey or 3 for colour; images are converted."""
    view: EvaluationView
    exif_orientation: bool = False
    """Whether files are turned as their EXIF orientation says."""

    def of_file(self, data: bytes) -> np.ndarray:
        """The view of a file's image, uint8 [size, size, C].

        Raises:
          CorruptImage: if it cannot be decoded.
        """
        decode = Decoding(self.channels, self.exif_orientation)
        return self.of_pixels(np.asarray(decode(data)))

    def of_pixels(self, image: np.ndarray) -> np.ndarray:
        """The view of an image, uint8 [height, width, C], as uint8 [size, size, C]."""
        return np.ascontiguousarray(evaluation_view(image, self.size, self.view))

    def of_array(self, image: np.ndarray, name: str) -> np.ndarray:
        """The same of an image that a user's program holds.

        Raises:
          UserError: if it is none.
        """
        if image.ndim == 2:
            image = image[..., None]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3):
            raise UserError(
                f"{name} is {image.dtype} {list(image.shape)}; expected uint8 pixels, 0 to 255, "
                "[height, width, 3] or [height, width, 1]"
            )
        if image.shape[-1] != self.channels:
            image = _converted(image, self.channels)
        return self.of_pixels(image)


def _converted(image: np.ndarray, channels: int) -> np.ndarray:
    from PIL import Image

    pixels = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    found = np.asarray(pixels.convert("L" if channels == 1 else "RGB"))
    return found[..., None] if channels == 1 else found


class View(NamedTuple):
    """What a model is shown of one image."""

    name: str
    """The file's path, or the number of an array."""
    pixels: np.ndarray | None
    """uint8 [size, size, C]; None of a file that cannot be decoded."""
    why: str = ""
    """Why it cannot."""


def list_images(images: Images) -> list[str | np.ndarray]:
    """Paths of files, folders searched at any depth, and arrays one by one.

    Raises:
      UserError: if a path is not there, a folder holds no image, or something is neither.
    """
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, str | os.PathLike):
        return list(_files(os.fspath(images)))
    if not isinstance(images, Iterable):
        raise UserError(
            f"{shown(images)} is no image; expected a path, or an array as numpy.asarray makes one"
        )
    return [one for several in images for one in list_images(several)]


def _files(path: str) -> Iterator[str]:
    path = os.path.expanduser(path)
    if os.path.isfile(path):
        yield path
        return
    if not os.path.isdir(path):
        raise UserError(f"there is no image or folder {path}")
    left_out, count = LeftOut(), 0
    for run in scan(path, "", left_out):
        for name in run.images:
            count += 1
            yield os.path.join(path, run.folder, name)
    if not count:
        kinds = " ".join(sorted(suffixes()))
        there = f"; there is {left_out}" if left_out else ""
        raise UserError(f"no image under {path}{there}. Expected files named {kinds}")


def read_views(images: Iterable[str | np.ndarray], shown: Shown) -> Iterator[View]:
    """What a model is shown of each image, in order; files are read by threads ahead."""
    waiting: collections.deque[Future[View]] = collections.deque()
    with ThreadPoolExecutor(_THREADS, "images") as pool:
        remaining = iter(enumerate(images))
        try:
            while True:
                while len(waiting) < 4 * _THREADS and (one := next(remaining, None)) is not None:
                    waiting.append(pool.submit(_view, *one, shown))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _view(number: int, image: str | np.ndarray, shown: Shown) -> View:
    if isinstance(image, np.ndarray):
        return View(str(number), shown.of_array(image, f"image {number}"))
    try:
        return View(image, shown.of_file(Path(image).read_bytes()))
    except CorruptImage as error:
        return View(image, None, str(error))
    except OSError as error:
        return View(image, None, str(error.strerror))
