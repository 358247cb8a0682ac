"""Examples that are made into others where they are read, such as captions into tokens."""

from collections.abc import Callable

import numpy as np

from distill.data.fast import Decoder, resize
from distill.data.sources.base import CorruptImage, Derived, Source, fingerprint_of
from distill.data.sources.splits import slicing_order
from distill.data.spec import Example, ExampleSpec
from distill.data.views import resize_box
from distill.errors import UserError


class SameImages(Derived):
    """A source's images, which are sliced as it is."""

    def slicing_order(self) -> np.ndarray:
        """That of the source, int [N]."""
        return slicing_order(self._source)


class Transformed(SameImages):
    """A source's examples, each passed through a function before views are cut out of it.

    The function runs where images are decoded, in threads or worker processes.

    Args:
      source: the examples.
      function: from an example to another; with `config.data.workers` it has to be picklable, and
        nothing random may be in it, as runs go on from where they were stopped.
      spec: what its results hold.
    """

    def __init__(self, source: Source, function: Callable[[Example], Example], spec: ExampleSpec):
        super().__init__(source)
        self.spec = spec
        self._function = function

    def read(self, index: int) -> Example:
        """Reads the example from the source; the result is what the function makes of it."""
        example = self._source.read(index)
        return self._function({**example, "image": np.asarray(example["image"])})


class Shrunk(SameImages):
    """A source's images, shrunk as they are read to what views need.

    Args:
      source: images with nothing beside them that is of their pixels.
      side: pixels that the shorter side is made, where it is longer.
      decoder: what resizes.

    Raises:
      UserError: if examples hold something for each pixel.
    """

    def __init__(self, source: Source, side: int, decoder: Decoder):
        super().__init__(source)
        others = [name for name, one in self.spec.items() if name != "image" and None in one.shape]
        if others:
            raise UserError(
                f"config.data.shrink shrinks images alone, but examples also hold for each pixel "
                f"{', '.join(others)}; set config.data.shrink=none"
            )
        self._side, self._decoder = side, decoder

    @property
    def fingerprint(self) -> str:
        """Of the source's fingerprint, and how it is shrunk."""
        return fingerprint_of(self._source.fingerprint, "shrunk", self._side, self._decoder)

    def read(self, index: int) -> Example:
        """Reads the example from the source."""
        example = self._source.read(index)
        height, width = example["image"].shape[:2]
        share = self._side / min(height, width)
        if share >= 1:
            return example
        image, size = np.asarray(example["image"]), (round(height * share), round(width * share))
        if self._decoder == "fast":
            small = resize(image, size)
        else:
            small = resize_box(image, (0, 0, width, height), size, "bilinear")
        return {**example, "image": small}


class WithoutBorder(SameImages):
    """A source's images without some pixels at each side, before anything else is done to them.

    Args:
      source: the images.
      border: how many pixels, at least 1; of ObjectNet's red border
        `distill.analysis.label_spaces.objectnet.BORDER`.
    """

    def __init__(self, source: Source, border: int):
        super().__init__(source)
        self._border = border

    @property
    def fingerprint(self) -> str:
        """Of the source's fingerprint and the border."""
        return fingerprint_of(self._source.fingerprint, "without_border", self._border)

    def read(self, index: int) -> Example:
        """Reads the example from the source; of its image the border is left out.

        Raises:
          CorruptImage: if nothing is left of the image.
        """
        example, border = self._source.read(index), self._border
        height, width = example["image"].shape[:2]
        if min(height, width) <= 2 * border:
            raise CorruptImage(f"{width}×{height} pixels have no more than a border of {border}")
        inside = slice(border, -border)
        return {**example, "image": example["image"][inside, inside]}
