"""What every source of images offers, and a source made of another."""

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from distill.data.spec import Example, ExampleSpec
from distill.errors import UserError

# Type checkers do not take functools' for the property of a protocol that it stands for.
if TYPE_CHECKING:
    cached_property = property
else:
    cached_property = functools.cached_property


class CorruptImage(Exception):
    """An image that cannot be decoded, or lacks what goes with it; carries the reason."""


class MissingSplit(UserError):
    """A source has no split of this name, or there is no image in it."""


class EmptySplit(MissingSplit):
    """There is no image in a split."""


class Source(Protocol):
    """A fixed, ordered collection of images, read by index."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Empty where images have no labels."""
        ...

    @property
    def spec(self) -> ExampleSpec:
        """What each of its examples holds."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """Of all images, int32 [N], −1 for an image without; no image is decoded."""
        ...

    def read(self, index: int) -> Example:
        """The image and what goes with it, as `spec` says.

        The image may be what stands for an array, with its `shape` and `dtype`, and is decoded
        where it is looked at: `np.asarray` makes it one, a slice of rows and columns a part of it.

        Raises:
          CorruptImage: if the image cannot be decoded, or when it is looked at.
          RunFailed: if the system cannot read it.
        """
        ...

    def describe(self, index: int) -> str:
        """What a person needs to find the image, printable: a file's path, a record's number."""
        ...

    def name(self, index: int) -> str:
        """What it is called in its source, wherever that lies: a path from its root, a number."""
        ...

    @property
    def found(self) -> str:
        """A line that says what there is and what was left out."""
        ...

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change where the images, their order or their classes do.

        They are the same wherever the data lies, and in every process.
        """
        ...


class Derived:
    """The same images as another source's; a subclass says what is otherwise."""

    def __init__(self, source: Source):
        self.class_names = source.class_names
        self.spec = source.spec
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    @property
    def labels(self) -> np.ndarray:
        """Of all images, int32 [N], −1 for an image without."""
        return self._source.labels

    def read(self, index: int) -> Example:
        """Reads the example from the source."""
        return self._source.read(index)

    def describe(self, index: int) -> str:
        """What the source says of the image."""
        return self._source.describe(index)

    def name(self, index: int) -> str:
        """What the source calls the image."""
        return self._source.name(index)

    def attributes(self, index: int) -> dict[str, Any]:
        """What else the source says of the image."""
        return attributes_of(self._source, index)

    def captions(self, index: int) -> tuple[str, ...]:
        """The texts that go with the image in the source."""
        return captions_of(self._source, index)

    @property
    def found(self) -> str:
        """What the source says that it found."""
        return self._source.found

    @property
    def fingerprint(self) -> str:
        """The source's."""
        return self._source.fingerprint

    @property
    def version(self) -> str:
        """The source's."""
        return version_of(self._source)

    @property
    def is_remote(self) -> bool:
        """Whether the source waits for a network."""
        return is_remote(self._source)

    @property
    def proportions(self) -> Mapping[str, tuple[int, float]]:
        """Of a mixture, images and weight of each part by its name; else empty."""
        return getattr(self._source, "proportions", {})


def is_remote(source: Source) -> bool:
    """Whether reading an image of a source is to wait for a network: many have to be on their way.

    A source may say so, as `is_remote`, and need not.
    """
    return getattr(source, "is_remote", False)


def attributes_of(source: Source, index: int) -> dict[str, Any]:
    """What else a source says of an image: texts, numbers or bools by name, of all images the same.

    It may have them, as its method `attributes(index)`, and need not.
    """
    attributes = getattr(source, "attributes", None)
    return {} if attributes is None else attributes(index)


def version_of(source: Source) -> str:
    """What changes on this machine where files were written to, though the fingerprint stays.

    A source may have it, as its property `version`, and need not; empty where nothing is known.
    """
    return getattr(source, "version", "")


def captions_of(source: Source, index: int) -> tuple[str, ...]:
    """The texts that go with an image, any number of them; no image is decoded.

    A source may have them, as its method `captions(index)`, and need not.

    Raises:
      CorruptImage: if they cannot be read as text.
      RunFailed: if the system cannot read them.
    """
    captions = getattr(source, "captions", None)
    return () if captions is None else captions(index)


def fingerprint_of(*parts: Any) -> str:
    """16 hexadecimal digits of parts that JSON can hold, or bytes."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def count(number: int, what: str, plural: str | None = None) -> str:
    """Such as 1 image, 1,200 images."""
    return f"{number:,} {what if number == 1 else plural or what + 's'}"


def labelled(images: int, classes: int) -> str:
    """How many images there are, in how many classes."""
    return f"{count(images, 'image')} in {count(classes, 'class', 'classes')}"


def abbreviate(names: tuple[str, ...]) -> str:
    """The names of a few classes, or the first and the last of many."""
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:8])}, … {names[-1]}"


def printable(text: str) -> str:
    r"""The text with line breaks, control characters and bytes that are no UTF-8 as \n, \x1b, \xff.

    Args:
      text: as Python gives file names, with undecodable bytes as lone surrogates (PEP 383).
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
