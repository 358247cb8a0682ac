"""Images in files, each beside a file that says something of each of its pixels."""

from collections.abc import Callable

import numpy as np

from distill.data.sources.base import cached_property, count, fingerprint_of, printable
from distill.data.sources.decoding import Decoding
from distill.data.sources.folders import ImageFiles, asked
from distill.data.sources.paired_files import Pairs
from distill.data.sources.places import storage_of
from distill.data.spec import ArraySpec, Example
from distill.errors import UserError, WrongFile


class PixelwiseImages(ImageFiles):
    """Images without labels, each with an array [height, width] of its pixels from another file.

    Args:
      pairs: the files.
      name: of the array in examples.
      spec: what it is.
      decode: makes an array of the bytes and the name of its file.
      decoding: how images become pixels.
      said: what the arrays are, for people, such as "masks of 150 classes".
      options: what else arrays depend on, as JSON can hold it.
      captions: whether text files beside images are captions, and not left out.

    Raises:
      UserError: if images are to be turned, of which their arrays know nothing.
    """

    class_names = ()

    def __init__(
        self,
        pairs: Pairs,
        name: str,
        spec: ArraySpec,
        decode: Callable[[bytes, str, int], np.ndarray],
        decoding: Decoding,
        *,
        said: str,
        options: object = None,
        captions: bool = False,
    ):
        check_not_turned(decoding, name)
        labels = np.full(len(pairs.images), -1, np.int32)
        super().__init__(pairs.images, labels, pairs.left_out, decoding, captions=captions)
        self.spec = {**self.spec, name: spec}
        self._others, self._name, self._decode_other = pairs.others, name, decode
        self._said, self._options = said, options

    def read(self, index: int) -> Example:
        """Reads and decodes both files.

        Raises:
          CorruptImage: if one cannot be decoded.
          WrongFile: if they differ in size, or the other is not what it should be.
        """
        example = super().read(index)
        path = self._others.path(index)
        array = self._decode_other(storage_of(path).read(path), path, self._decode.max_pixels)
        expected = example["image"].shape[:2]
        if array.shape != expected:
            raise WrongFile(
                f"{printable(path)} has {_sides(array.shape)} pixels, but its image "
                f"{self.describe(index)} has {_sides(expected)}; both have to be of one size"
            )
        return {**example, self._name: array}

    def _images(self) -> str:
        return f"{count(len(self), 'image')} with {self._said}"

    @cached_property
    def fingerprint(self) -> str:
        """Of the files' paths from the root and sizes in order, and what is made of them."""
        return self._all[0]

    @property
    def version(self) -> str:
        """Of the files' times of change."""
        return self._all[1]

    @cached_property
    def _all(self) -> tuple[str, str]:
        sizes, times = asked(self._others)
        relative = b"\0".join(self._others.relative())
        return (
            fingerprint_of(super().fingerprint, relative, sizes, self._name, self._options),
            fingerprint_of(super().version, times),
        )


def check_not_turned(decoding: Decoding, name: str) -> None:
    """Checks that images stay as they are stored, as what is known of their pixels does.

    Raises:
      UserError: if they are to be turned.
    """
    if decoding.exif_orientation:
        raise UserError(
            "config.data.exif_orientation turns images, but not what is known of their pixels "
            f"({name}); set it to false"
        )


def _sides(shape: tuple[int, ...]) -> str:
    height, width = shape
    return f"{width}×{height}"
