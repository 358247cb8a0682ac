"""Scores and masks at other sizes, as PyTorch resizes them.

Pixels are areas, whose centres stay where they are in the image (`align_corners=False`), and
nothing is averaged where an image gets smaller.
"""

from collections.abc import Sequence

import numpy as np

from distill.errors import UserError

# Numbers that are resized at once: 64 MiB in float32.
_BLOCK = 1 << 24


def resize_bilinear(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolates between the nearest two rows and columns, as torch's `bilinear` does.

    It is also `jax.image.resize(…, "bilinear", antialias=False)`. Places between pixels are
    computed in float64; torch and JAX round those of float32 arrays, by up to 1e-4 of a pixel.

    Args:
      array: [h, w, …] of any float dtype.
      size: height and width to have.

    Returns:
      float32 [height, width, …].
    """
    array = np.asarray(array, np.float32)
    for axis, length in enumerate(size):
        array = _along(array, axis, *_taps(array.shape[axis], length))
    return array


def classes_at(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The highest of resized scores of each pixel; of equal ones the first.

    As `resize_bilinear(scores, size).argmax(axis=-1)`, but the scores of some rows at a time are
    in memory.

    Args:
      scores: [h, w, C] of any float dtype.
      size: height and width to have.

    Returns:
      int32 [height, width].
    """
    height, width = size
    scores = _along(np.asarray(scores, np.float32), 1, *_taps(scores.shape[1], width))
    low, high, weight = _taps(len(scores), height)
    block = max(1, _BLOCK // scores[0].size)
    found = np.empty(size, np.int32)
    for start in range(0, height, block):
        rows = slice(start, start + block)
        found[rows] = _along(scores, 0, low[rows], high[rows], weight[rows]).argmax(axis=-1)
    return found


def resize_nearest(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Takes the pixel in which the new pixel's centre lies.

    It is torch's `nearest-exact`, JAX's and Pillow's `nearest`; torch's `nearest` is another.

    Args:
      array: [h, w, …] of any dtype.
      size: height and width to have.

    Returns:
      [height, width, …] of the same dtype.
    """
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for old, new in zip(array.shape, size, strict=False)
    )
    return array[rows[:, None], columns]


def check_size(prediction: np.ndarray, truth: np.ndarray, source: str) -> None:
    """Checks that a prediction has a value for each pixel of what it is compared with.

    Raises:
      UserError: that names the source of the truth if not.
    """
    if prediction.shape != truth.shape:
        raise UserError(
            f"{source} is {pixels(truth.shape)}, but its prediction {pixels(prediction.shape)}; "
            "expected both of one size"
        )


def pixels(shape: Sequence[int]) -> str:
    """A size for people to read."""
    return f"{'×'.join(map(str, shape))} pixels (height × width)"


def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each new place the two old ones around it, int [new], and the second one's weight."""
    place = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    low = place.astype(np.int64)
    return low, np.minimum(low + 1, old - 1), (place - low).astype(np.float32)


def _along(
    array: np.ndarray, axis: int, low: np.ndarray, high: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    weight = weight.reshape(-1, *[1] * (array.ndim - axis - 1))
    first, second = array.take(low, axis), array.take(high, axis)
    # In place: scores of all classes at the size of an image are large.
    first *= 1 - weight
    second *= weight
    first += second
    return first
