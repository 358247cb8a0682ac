"""JPEGs as images of which no more is decoded than is looked at."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from distill.data.jpeg import Header, UnsupportedJpeg, decode_crop, decode_top, parse, segments

# A part that is a larger share of the image is not decoded faster than the whole.
_WHOLE = 0.75


class JpegImage:
    """The pixels of a JPEG file, uint8 [height, width, 3].

    `image[top:bottom, left:right]` decodes what covers this part, of a file that
    `distill.data.jpeg.with_restarts` has made, and of any other the rows down to its bottom;
    `np.asarray(image)`, and any other index, the whole. The pixels are those of the whole, to the
    bit. Damage is found where it is decoded, or behind the end of a file that has none.

    Args:
      data: of the file.
      header: of `distill.data.jpeg.parse`.
      decode: decodes the whole, or says what is wrong with it.
    """

    dtype: ClassVar = np.dtype(np.uint8)

    def __init__(self, data: bytes, header: Header, decode: Callable[[bytes], np.ndarray]):
        self.shape = header.height, header.width, 3
        self._data, self._header, self._decode = data, header, decode
        self._segments: np.ndarray | None = None
        self._whole: np.ndarray | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The whole image; raises what `decode` does."""
        whole = self._whole
        if whole is None:
            whole = self._whole = self._decode(self._data)
        return np.array(whole, dtype, copy=copy)

    def __getitem__(self, index: Any) -> np.ndarray:
        """A part of the image, uint8 [bottom − top, right − left, 3]; raises what `decode` does.

        Any index that an array takes may be given.
        """
        if self._whole is None and (box := self._box(index)) is not None:
            try:
                return self._part(*box)
            except UnsupportedJpeg:
                # A decoder of whole files knows what is wrong, if anything is.
                pass
        return np.asarray(self)[index]

    def _part(self, left: int, top: int, right: int, bottom: int) -> np.ndarray:
        if not self._header.lengths:
            return decode_top(self._data, self._header, bottom)[top:, left:right]
        height, width, _ = self.shape
        if (bottom - top) * (right - left) > _WHOLE * height * width:
            raise UnsupportedJpeg("it is decoded faster as a whole")
        if self._segments is None:
            self._segments = segments(self._data, self._header)
        return decode_crop(self._data, self._header, self._segments, (left, top, right, bottom))

    def _box(self, index: Any) -> tuple[int, int, int, int] | None:
        """Left, top, right and bottom, if this is a part with pixels in it."""
        if not (isinstance(index, tuple) and len(index) == 2):
            return None
        if not all(isinstance(one, slice) for one in index):
            return None
        height, width, _ = self.shape
        (top, bottom, down), (left, right, across) = (
            one.indices(side) for one, side in zip(index, (height, width), strict=True)
        )
        if down != 1 or across != 1 or top >= bottom or left >= right:
            return None
        return left, top, right, bottom


def jpeg_image(
    data: bytes, decode: Callable[[bytes], np.ndarray], *, most_pixels: int
) -> JpegImage | None:
    """The image of a JPEG file of which parts can be decoded alone; None of any other file.

    Args:
      data: of the whole file.
      decode: decodes it.
      most_pixels: of a file that may be decoded unseen.
    """
    try:
        header = parse(data)
    except UnsupportedJpeg:
        return None
    if header.height * header.width > most_pixels:
        return None
    # Markers of others, which need not begin rows, are not cut at, nor a scan stopped amid them.
    return JpegImage(data, header, decode) if header.lengths or not header.interval else None
