"""Parts of a JPEG that has restart markers, decoded without the rest of it."""

import struct

import numpy as np

from distill.data.jpeg.errors import UnsupportedJpeg
from distill.data.jpeg.header import Header

# Decoders smooth colour between neighbouring samples: the pixel beside a cut is another one.
_MARGIN = 2
# Of narrower images libjpeg-turbo does not smooth colour.
_NARROWEST = 5
_COLOURS = {1: "GRAY", 3: "RGB"}

Box = tuple[int, int, int, int]


def crop(
    data: bytes, header: Header, segments: np.ndarray, box: Box
) -> tuple[bytes, tuple[int, int]]:
    """The part of a JPEG that covers a box, as a JPEG of its own.

    Args:
      data: of the whole file, as of `with_restarts`.
      header: of `parse`.
      segments: of `distill.data.jpeg.segments`.
      box: left, top, right and bottom in pixels.

    Returns:
      The file, and how far in pixels the box lies from its left and from its top.

    Raises:
      UnsupportedJpeg: if rows of MCUs do not begin with restart markers.
      ValueError: if the box is empty or not within the image.
    """
    left, top, right, bottom = box
    if not (0 <= left < right <= header.width and 0 <= top < bottom <= header.height):
        raise ValueError(f"box {box} is not in an image of {header.width} × {header.height} pixels")
    (rows, columns), (high, wide) = header.mcus, header.mcu
    if not header.interval or columns % header.interval:
        raise UnsupportedJpeg("its rows do not begin with restart markers")
    per_row, wide = columns // header.interval, wide * header.interval
    first, last = _covering(left, right, wide, per_row)
    if first and header.width - first * wide < _NARROWEST:
        first -= 1
    upper, lower = _covering(top, bottom, high, rows)
    parts = np.arange(upper, lower + 1)[:, None] * per_row + np.arange(first, last + 1)
    begins, ends = segments[parts[:, 0]].tolist(), segments[parts[:, -1] + 1].tolist()
    small = bytearray(header.head)
    for begin, end in zip(begins, ends, strict=True):
        small += data[begin:end]
    height = min((lower + 1) * high, header.height) - upper * high
    width = min((last + 1) * wide, header.width) - first * wide
    struct.pack_into(">HH", small, header.frame, height, width)
    lengths = (segments[parts + 1] - segments[parts]).reshape(-1)
    markers = len(header.head) + np.cumsum(lengths) - 1
    codes = 0xD0 | np.arange(len(markers), dtype=np.uint8) & 7
    codes[-1] = 0xD9
    np.frombuffer(small, np.uint8)[markers] = codes
    return bytes(small), (left - first * wide, top - upper * high)


def decode_crop(
    data: bytes, header: Header, segments: np.ndarray, box: Box, channels: int = 3
) -> np.ndarray:
    """The pixels of a box as simplejpeg decodes them of the whole file, to the bit.

    Args:
      data: of the whole file, as of `with_restarts`.
      header: of `parse`.
      segments: of `distill.data.jpeg.segments`.
      box: left, top, right and bottom in pixels.
      channels: 1 for grey or 3 for colour.

    Returns:
      uint8 [bottom − top, right − left, channels].

    Raises:
      UnsupportedJpeg: as `crop`, or if the part is damaged.
      ValueError: if the box is empty or not within the image.
    """
    import simplejpeg

    small, (left, top) = crop(data, header, segments, box)
    try:
        pixels = simplejpeg.decode_jpeg(small, _COLOURS[channels])
    # Whatever damage makes the decoder stumble on.
    except Exception as error:
        raise UnsupportedJpeg(str(error) or type(error).__name__) from error
    return pixels[top : top + box[3] - box[1], left : left + box[2] - box[0]]


def _covering(begin: int, end: int, size: int, count: int) -> tuple[int, int]:
    """First and last of `count` parts of `size` pixels that cover these and the margin."""
    return max(begin - _MARGIN, 0) // size, min((end + _MARGIN - 1) // size, count - 1)
