"""Images with the texts that go with them, of which each view has one, as tokens."""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import numpy as np

from distill.data.sources import CorruptImage, Source, captions_of
from distill.data.sources.base import fingerprint_of
from distill.data.spec import ArraySpec, Cut, Draw, Example
from distill.data.tokens import Tokenizer
from distill.data.transforms import SameImages
from distill.errors import RunFailed, UserError

# Of so many images, spread evenly, one must have a caption.
_SAMPLE = 256


@dataclasses.dataclass(frozen=True)
class CaptionSpec(ArraySpec):
    """An image's captions, a tuple of `str`; of a view, the tokens of one of them, int32 [length].

    Which one is drawn for training views; evaluation views have the first.
    """

    tokenizer: Tokenizer
    dtype: ClassVar = np.dtype(np.int32)

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """One number for each token."""
        return (self.tokenizer.length,)

    def holds(self, array: Any) -> bool:
        """Whether it is captions, one at least."""
        return isinstance(array, tuple) and bool(array) and all(isinstance(c, str) for c in array)

    def chosen(self, array: tuple[str, ...], draw: Draw | None) -> str:
        """One of the captions: the first if nothing is drawn."""
        return array[draw().integers(len(array)) if draw and len(array) > 1 else 0]

    def seen(self, array: str, cut: Cut) -> np.ndarray:
        """The caption's tokens, int32 [length]."""
        return self.tokenizer([array])[0]

    def __str__(self) -> str:
        return f"{self.tokenizer.length} tokens of a caption"


class Captioned(SameImages):
    """A source's images, each with its captions, as `caption`.

    An image without one counts as one that cannot be decoded.

    Args:
      source: the images; see `captions_of`.
      tokenizer: makes tokens of captions.

    Raises:
      UserError: if there are no captions, or the tokenizer's vocabulary cannot be read.
    """

    def __init__(self, source: Source, tokenizer: Tokenizer):
        super().__init__(source)
        self.spec = {**source.spec, "caption": CaptionSpec(tokenizer)}
        self._tokenizer = tokenizer
        # The vocabulary is read first: what is wrong with it is said before anything is decoded.
        _ = tokenizer.eos_id
        _check_captions(source)

    @property
    def fingerprint(self) -> str:
        """Of the source's fingerprint and the tokenizer's."""
        return fingerprint_of(self._source.fingerprint, "captions", self._tokenizer.fingerprint)

    def read(self, index: int) -> Example:
        """Reads the example from the source, and its captions.

        Raises:
          CorruptImage: if the image has none.
        """
        captions = captions_of(self._source, index)
        if not captions:
            raise CorruptImage("it has no caption")
        return {**self._source.read(index), "caption": captions}


def _check_captions(source: Source) -> None:
    count = min(len(source), _SAMPLE)
    for place in range(count):
        try:
            if captions_of(source, place * len(source) // count):
                return
        except CorruptImage:
            continue
    raise UserError(
        f"there are no captions: none of {count:,} images looked at has one, such as "
        f"{source.describe(0)}. Expected a column caption of a list, a text file beside each "
        "image that is called alike, in a folder or a tar, or a feature captions of a TFDS data "
        "set. Set config.data.captions=none, or name other data"
    )


class AllCaptions(NamedTuple):
    """The captions of all images."""

    texts: list[str]
    images: np.ndarray
    """The number of each caption's image, int64 [texts]."""


def all_captions(source: Source) -> AllCaptions:
    """All captions of a source's images, in order; no image is decoded.

    Raises:
      RunFailed: if an image's cannot be read.
    """
    texts, images = [], []
    for index in range(len(source)):
        try:
            found = captions_of(source, index)
        except CorruptImage as error:
            raise RunFailed(f"{source.describe(index)}: {error}. Repair the data") from error
        texts += found
        images += [index] * len(found)
    return AllCaptions(texts, np.array(images, np.int64))
