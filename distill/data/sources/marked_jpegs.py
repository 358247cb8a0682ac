"""JPEGs with restart markers as images of which parts are decoded where they are looked at."""

from typing import Any, ClassVar

import numpy as np

from distill.data.jpeg import Header, UnsupportedJpeg, decode_crop, parse, segments
from distill.data.sources.decoding import Decoding

# A part that is a larger share of the image is not decoded faster than the whole.
_WHOLE = 0.75


class MarkedJpeg:
    """The pixels of a JPEG file, uint8 [height, width, 3].

    `image[top:bottom, left:right]` decodes what covers this part; `np.asarray(image)`, and any
    other index, the whole. The pixels are those of the whole, to the bit.

    Args:
      data: of the file, as of `distill.data.jpeg.with_restarts`.
      header: of `distill.data.jpeg.parse`.
      decoding: decodes the whole.
    """

    dtype: ClassVar = np.dtype(np.uint8)

    def __init__(self, data: bytes, header: Header, decoding: Decoding):
        self.shape = header.height, header.width, 3
        self._data, self._header, self._decode = data, header, decoding
        self._segments: np.ndarray | None = None
        self._whole: np.ndarray | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The whole image; raises what `Decoding` does."""
        whole = self._whole
        if whole is None:
            whole = self._whole = self._decode(self._data)
        return np.array(whole, dtype, copy=copy)

    def __getitem__(self, index: Any) -> np.ndarray:
        """A part of the image, uint8 [bottom − top, right − left, 3]; raises what `Decoding` does.

        Any index that an array takes may be given.
        """
        if self._whole is None and (box := self._box(index)) is not None:
            try:
                if self._segments is None:
                    self._segments = segments(self._data, self._header)
                return decode_crop(self._data, self._header, self._segments, box)
            except UnsupportedJpeg:
                # A decoder of whole files knows what is wrong, if anything is.
                pass
        return np.asarray(self)[index]

    def _box(self, index: Any) -> tuple[int, int, int, int] | None:
        """Left, top, right and bottom, if this is a part that is worth being decoded alone."""
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
        if (bottom - top) * (right - left) > _WHOLE * height * width:
            return None
        return left, top, right, bottom


def partly_decoded(data: bytes, decoding: Decoding) -> "MarkedJpeg | np.ndarray":
    """An image that decodes its parts, where its file allows it and the pixels are those of `fast`.

    Args:
      data: of the whole file.
      decoding: decodes it.

    Raises:
      CorruptImage: if it cannot be decoded.
    """
    if decoding.decoder == "fast" and decoding.channels == 3:
        try:
            header = parse(data)
        except UnsupportedJpeg:
            return decoding(data)
        # `with_restarts` records lengths, and damaged files it leaves as they are.
        is_upright = not decoding.exif_orientation or header.orientation == 1
        if header.lengths and is_upright:
            return MarkedJpeg(data, header, decoding)
    return decoding(data)
