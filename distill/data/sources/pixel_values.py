"""Labels and depths of each pixel, from the bytes of files to arrays."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from distill.data.fast import MAX_PIXELS
from distill.data.sources.base import CorruptImage, count, printable
from distill.data.sources.decoding import check_size
from distill.data.spec import MaskSpec
from distill.errors import RunFailed, WrongFile

# Formats that keep numbers as they are.
_FORMATS = ("PNG", "TIFF", "BMP", "GIF")
# Pillow spreads grey of fewer than 8 bits over 0…255; by these factors.
_SPREAD = {"L;2": 85, "L;4": 17}


def decode_numbers(data: bytes, file: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The number of each pixel, uint8 [height, width], of 16 or 32 bits uint16 or int32.

    Of a palette it is the index, never a colour; of grey with 1, 2 or 4 bits the value as stored.

    Args:
      data: of a PNG, TIFF, BMP or GIF file.
      file: what it is called, for errors.
      max_pixels: the most that it may have.

    Raises:
      CorruptImage: if it cannot be decoded, or declares more pixels.
      WrongFile: if it has colours, or is in a format that does not keep numbers as they are.
      RunFailed: if there is not enough memory.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            check_size(*image.size, max_pixels)
            spread = _SPREAD.get(str(image.tile[0][3]), 1) if image.tile else 1
            image.load()
            mode, numbers = image.mode, np.asarray(image)
    except UnidentifiedImageError as error:
        raise WrongFile(
            f"{printable(file)} is none of {', '.join(_FORMATS)}, which keep a pixel's number as "
            "it is; write it as PNG, from the numbers it was made of"
        ) from error
    except MemoryError as error:
        # The machine's fault, not the file's.
        raise RunFailed(f"there is not enough memory to decode {printable(file)}") from error
    # Decoders let through whatever damage makes them stumble on; see `decoding.decode`.
    except Exception as error:
        raise CorruptImage(f"{printable(file)}: {error or type(error).__name__}") from error
    if mode not in ("1", "L", "P", "I") and not mode.startswith("I;16"):
        raise WrongFile(
            f"{printable(file)} holds pixels of mode {mode}, but expected one number each: grey of "
            "1 to 16 bits, or indices into a palette. Write colours as the numbers they stand for"
        )
    return numbers.astype(np.uint8) if mode == "1" else numbers // numbers.dtype.type(spread)


def labels_of(
    numbers: np.ndarray, spec: MaskSpec, *, first: int, ignored: Sequence[int], what: str
) -> np.ndarray:
    """The classes that numbers of a file stand for, as `spec` has them, [height, width].

    Args:
      numbers: integers [height, width].
      spec: what they become.
      first: the number of the first class.
      ignored: numbers that stand for no class.
      what: the file, for errors.

    Raises:
      WrongFile: for a number that is no class's and not ignored.
    """
    classes = len(spec.class_names)
    labels = numbers.astype(np.int32) - first
    without = np.isin(numbers, np.array(ignored, np.int64))
    wrong = ~without & ((labels < 0) | (labels >= classes))
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        ignore = " or ".join(map(str, ignored))
        raise WrongFile(
            f"{what} has the label {numbers[row, column]} in row {row}, column {column} "
            f"({count(int(wrong.sum()), 'pixel')} with such labels), but expected "
            f"{first}…{first + classes - 1} of the {count(classes, 'class', 'classes')}, or "
            f"{ignore} for none"
        )
    labels[without] = spec.ignore
    return labels.astype(spec.dtype)


def decode_depth(
    data: bytes, file: str, divisor: float | None, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """The depth of each pixel, float32 [height, width], NaN where it is not known.

    Args:
      data: of an image with a whole number for each pixel, or of a `.npy` file.
      file: what it is called, which tells which of both it is.
      divisor: what whole numbers are divided by; None where none is known.
      max_pixels: the most that it may have.

    Raises:
      CorruptImage: if it cannot be decoded.
      WrongFile: if it holds anything else, or whole numbers and there is no divisor.
    """
    is_array = file.lower().endswith(".npy")
    values = _array(data, file) if is_array else decode_numbers(data, file, max_pixels)
    if values.dtype.kind == "f":
        return depth_of(values)
    if divisor is None:
        raise WrongFile(
            f"{printable(file)} holds whole numbers; say after the path what they are divided by, "
            "?divisor=1000 where they are millimetres and depth is in metres"
        )
    return depth_of(values / np.float64(divisor))


def depth_of(values: np.ndarray) -> np.ndarray:
    """Depths as float32, NaN where they are not above 0 or not finite."""
    # Numbers beyond float32 become infinite, and so unknown.
    with np.errstate(over="ignore"):
        depth = values.astype(np.float32)
    return np.where((depth > 0) & np.isfinite(depth), depth, np.float32(np.nan))


def _array(data: bytes, file: str) -> np.ndarray:
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    # A header may declare any size, for which memory is asked first.
    except (ValueError, EOFError, OSError, MemoryError, OverflowError) as error:
        raise CorruptImage(f"{printable(file)}: {error or type(error).__name__}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise WrongFile(f"{printable(file)} holds no array of numbers; expected [height, width]")
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.squeeze(2 if values.shape[2] == 1 else 0)
    if values.ndim != 2:
        shape = [*values.shape]
        raise WrongFile(f"{printable(file)} holds an array {shape}; expected [height, width]")
    return values
