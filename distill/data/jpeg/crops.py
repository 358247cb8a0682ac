"""Parts of a JPEG, decoded without the rest of it."""

import re
import struct

import numpy as np
import simplejpeg

from distill.data.jpeg.errors import UnsupportedJpeg
from distill.data.jpeg.header import Header
from distill.data.jpeg.scan import markers

# Decoders smooth colour between neighbouring samples: only the pixel beside a cut is another one.
_MARGIN = 1
# Of narrower images libjpeg-turbo does not smooth colour.
_NARROWEST = 5
_COLOURS = {1: "GRAY", 3: "RGB"}
_END = b"\xff\xd9"
# What a decoder says of a sound file whose scan goes on after the last row that it looks for. It
# tells what it found wrong first, so that nothing was before.
_GOES_ON = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9")

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
    small, place = _cut(data, header, segments, box)
    return bytes(small), place


def _cut(
    data: bytes, header: Header, segments: np.ndarray, box: Box
) -> tuple[bytearray, tuple[int, int]]:
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
    grid = segments[upper * per_row : (lower + 1) * per_row + 1]
    begins, ends = grid[first:-1:per_row].tolist(), grid[last + 1 :: per_row].tolist()
    rows_of_parts = [data[begin:end] for begin, end in zip(begins, ends, strict=True)]
    small = bytearray().join([header.head, *rows_of_parts])
    height = min((lower + 1) * high, header.height) - upper * high
    width = min((last + 1) * wide, header.width) - first * wide
    struct.pack_into(">HH", small, header.frame, height, width)
    lengths = (grid[1:] - grid[:-1]).reshape(-1, per_row)[:, first : last + 1]
    last_bytes = lengths.cumsum()
    last_bytes += len(header.head) - 1
    there = markers(len(segments) - 1)[upper * per_row : (lower + 1) * per_row]
    file = np.frombuffer(small, np.uint8)
    if (file[last_bytes] != there.reshape(-1, per_row)[:, first : last + 1].ravel()).any():
        raise UnsupportedJpeg("its parts do not end with restart markers")
    file[last_bytes] = markers(len(last_bytes))
    return small, (left - first * wide, top - upper * high)


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
    small, (left, top) = _cut(data, header, segments, box)
    try:
        pixels = simplejpeg.decode_jpeg(small, _COLOURS[channels])
    # Whatever damage makes the decoder stumble on.
    except Exception as error:
        raise UnsupportedJpeg(str(error) or type(error).__name__) from error
    return pixels[top : top + box[3] - box[1], left : left + box[2] - box[0]]


def decode_top(data: bytes, header: Header, bottom: int, channels: int = 3) -> np.ndarray:
    """The first rows of a JPEG as simplejpeg decodes them of the whole file, to the bit.

    What is coded below them is passed over: the header is made to say that there is no more.

    Args:
      data: of the whole file.
      header: of `parse`, without restart markers.
      bottom: how many rows, at least 1.
      channels: 1 for grey or 3 for colour.

    Returns:
      uint8 [bottom, width, channels].

    Raises:
      UnsupportedJpeg: if it takes the whole file to decode them, the rows are damaged, or the file
        has no end.
      ValueError: if there are not as many rows.
    """
    if not 0 < bottom <= header.height:
        raise ValueError(f"an image of {header.height} rows has no {bottom}")
    high = header.mcu[0]
    height = -(-(bottom + _MARGIN) // high) * high
    if height >= header.height:
        raise UnsupportedJpeg("the whole of it is decoded")
    if header.interval or not data.endswith(_END):
        raise UnsupportedJpeg("it has restart markers, or no end")
    small = bytearray().join([header.head, memoryview(data)[header.scan :]])
    struct.pack_into(">H", small, header.frame, height)
    pixels = np.empty((height, header.width, channels), np.uint8)
    try:
        simplejpeg.decode_jpeg(small, _COLOURS[channels], buffer=pixels)
    # Whatever damage makes the decoder stumble on, and that the scan goes on.
    except Exception as error:
        if not _GOES_ON.match(str(error)):
            raise UnsupportedJpeg(str(error) or type(error).__name__) from error
    return pixels[:bottom]


def _covering(begin: int, end: int, size: int, count: int) -> tuple[int, int]:
    """First and last of `count` parts of `size` pixels that cover these and the margin."""
    return max(begin - _MARGIN, 0) // size, min((end + _MARGIN - 1) // size, count - 1)
