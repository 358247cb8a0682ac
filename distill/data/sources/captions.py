"""Texts that go with an image, as sources find them: any number of them, each on a line."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from distill.data.sources.base import CorruptImage, printable
from distill.errors import UserError

SUFFIX = ".txt"
"""Of a file with an image's captions, one a line, beside the image's that is called alike."""

# What columns of captions may be called, in capitals or not, also several with numbers.
_COLUMN = re.compile(r"(captions?|texts?|title)[ _-]?\d*", re.IGNORECASE)


def caption_columns(names: Sequence[str]) -> list[int]:
    """The places of the columns that hold captions, by their names."""
    return [place for place, name in enumerate(names) if _COLUMN.fullmatch(name.strip())]


def captions_in(cells: Iterable[str]) -> tuple[str, ...]:
    """The captions that cells of a table hold: a text each, a list of texts in JSON, or none.

    Raises:
      UserError: for a list that cannot be read, or text that is not UTF-8.
    """
    found = tuple(one for cell in cells for one in _in_cell(cell.strip()))
    try:
        "".join(found).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"captions {found} are not UTF-8") from error
    return found


def _in_cell(cell: str) -> list[str]:
    if not cell.startswith('["') and cell != "[]":
        return _texts([cell])
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError) as error:
        raise UserError(f"captions {cell[:60]!r} are no list in JSON: {error}") from error
    if not all(isinstance(one, str) for one in found):
        raise UserError(f"captions {cell[:60]!r} are not texts alone")
    return _texts(found)


def captions_of_file(data: bytes, file: str) -> tuple[str, ...]:
    """The captions of a text file, one a line.

    Args:
      data: what it holds.
      file: what it is called, for the error.

    Raises:
      CorruptImage: if it is not UTF-8.
    """
    return tuple(_texts(_decoded(data, file).splitlines()))


def captions_of_record(values: Iterable[bytes], record: str) -> tuple[str, ...]:
    """The captions of a record, each a value.

    Args:
      values: in UTF-8.
      record: what it is called, for the error.

    Raises:
      CorruptImage: if one is not UTF-8.
    """
    return tuple(_texts(_decoded(value, record) for value in values))


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorruptImage(f"its captions in {printable(where)} are not UTF-8: {error}") from error


def _texts(found: Iterable[str]) -> list[str]:
    return [text for one in found if (text := " ".join(one.split()))]


class CaptionTable(NamedTuple):
    """The captions of images in a few arrays, which cost little to hand to another process."""

    texts: bytes
    """In UTF-8, each with a line break after it."""
    ends: np.ndarray
    """Where those of each image end, int64 [N]."""

    @classmethod
    def of(cls, captions: Iterable[Sequence[str]]) -> "CaptionTable":
        """Those of images, in order; none of them has a line break."""
        joined = ["".join(f"{one}\n" for one in some).encode() for some in captions]
        return cls(b"".join(joined), np.cumsum([len(one) for one in joined], dtype=np.int64))

    @property
    def parts(self) -> tuple[bytes, bytes]:
        """What tells these captions from others."""
        return self.texts, self.ends.astype("<i8").tobytes()

    def __getitem__(self, index: int) -> tuple[str, ...]:
        start = self.ends[index - 1] if index else 0
        return tuple(self.texts[start : self.ends[index]].decode().splitlines())
