"""Images of any size, seen through windows of the one size that a model was trained for.

The sliding windows of mmsegmentation and DINOv3's evaluations; where windows overlap, scores are
averaged.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from distill.analysis.resizing import resize_bilinear
from distill.errors import UserError


class Window(NamedTuple):
    """What of an image a window shows."""

    top: int
    left: int
    height: int
    """The window's, or the image's where this is less."""
    width: int


def windows_of(size: tuple[int, int], window: int, stride: int) -> list[Window]:
    """The windows that cover an image, row by row.

    The last of a row or column is moved back into the image, so that it overlaps more.

    Args:
      size: height and width of the image, in pixels.
      window: side of the windows.
      stride: from one to the next; 1 to the window's side.

    Raises:
      UserError: for another stride.
    """
    if not 1 <= stride <= window:
        raise UserError(
            f"a stride of {stride} pixels leaves some unseen by windows of {window}; expected 1 to "
            f"{window}"
        )
    rows, columns = (_starts(length, window, stride) for length in size)
    height, width = (min(length, window) for length in size)
    return [Window(top, left, height, width) for top in rows for left in columns]


def cut_window(image: np.ndarray, window: Window, side: int, fill: float = 0) -> np.ndarray:
    """What a window shows, filled up on the right and at the bottom to one size for all.

    Args:
      image: [height, width, …].
      window: of `windows_of`.
      side: of the windows.
      fill: what stands where there is no image.

    Returns:
      [side, side, …] of the same dtype.
    """
    top, left, height, width = window
    shown = image[top : top + height, left : left + width]
    missing = [(0, side - height), (0, side - width)] + [(0, 0)] * (image.ndim - 2)
    return np.pad(shown, missing, constant_values=fill)


@dataclasses.dataclass
class WindowMean:
    """Scores of an image, averaged over the windows that show each pixel."""

    total: np.ndarray
    """float32 [height, width, C]."""
    times: np.ndarray
    """How many windows showed each pixel so far, int32 [height, width]."""

    @classmethod
    def empty(cls, size: tuple[int, int], classes: int) -> "WindowMean":
        """Of an image of this height and width, before any window."""
        return cls(np.zeros((*size, classes), np.float32), np.zeros(size, np.int32))

    def add(self, window: Window, scores: np.ndarray, side: int) -> None:
        """Adds what is predicted of a window, resized to its pixels.

        Args:
          window: of `windows_of`.
          scores: [h, w, C] of any float dtype, of all that `cut_window` returned; those of what it
            filled up are left out.
          side: of the windows.
        """
        top, left, height, width = window
        there = slice(top, top + height), slice(left, left + width)
        self.total[there] += resize_bilinear(scores, (side, side))[:height, :width]
        self.times[there] += 1

    def mean(self) -> np.ndarray:
        """float32 [height, width, C]; every pixel must have been shown."""
        return self.total / self.times[..., None].astype(np.float32)


def _starts(length: int, window: int, stride: int) -> list[int]:
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(min(number * stride, length - window), 0) for number in range(count)]
