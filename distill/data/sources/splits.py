"""Splits and slices of them, `train[:98%]` and `train[:10%]+test`, as TFDS writes them.

https://www.tensorflow.org/datasets/splits describes the notation. Shards, `train[3shard]`, are
TFDS's alone.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from distill.data.sources.base import Source, count
from distill.data.sources.subset import Joined, Subset
from distill.errors import UserError

_PART = re.compile(r"(?P<split>[^\[\]+]+)(\[(?P<start>[^:\]]*):(?P<stop>[^:\]]*)\])?")
_BOUNDARY = re.compile(r"(?P<value>-?[\d_.]+)(?P<unit>%)?")


class Part(NamedTuple):
    """A split, or the images between two boundaries in it."""

    split: str
    start: float | None = None
    """None is the beginning; negative numbers count from the end."""
    stop: float | None = None
    percent: bool = False
    """Whether boundaries are percents of the split; else they are numbers of images."""

    def bounds(self, size: int) -> tuple[int, int]:
        """First image and the one after the last, of `size` images; rounded as TFDS rounds.

        Raises:
          UserError: if a boundary lies outside.
        """
        start, stop = (
            default if value is None else self._absolute(value, size)
            for value, default in ((self.start, 0), (self.stop, size))
        )
        if max(abs(start), abs(stop)) > size:
            raise UserError(
                f"{self} reaches beyond the {count(size, 'image')} of split {self.split!r}"
            )
        start, stop = (size + value if value < 0 else value for value in (start, stop))
        return start, stop

    def _absolute(self, value: float, size: int) -> int:
        return round(value * size / 100.0) if self.percent else int(value)

    def __str__(self) -> str:
        unit = "%" if self.percent else ""
        start, stop = (
            "" if value is None else f"{value:g}{unit}" if unit else f"{value}"
            for value in (self.start, self.stop)
        )
        return f"{self.split}[{start}:{stop}]"


def parse_split(text: str) -> list[Part]:
    """The parts that a split's text adds up.

    Raises:
      UserError: if it is not written as TFDS writes splits.
    """
    return [_parse_part(part.strip(), text) for part in text.split("+")]


def _parse_part(part: str, text: str) -> Part:
    found = _PART.fullmatch(part)
    if not found:
        raise _wrong(text)
    if found["start"] is None:
        return Part(part)
    boundaries = [
        _BOUNDARY.fullmatch(side) if side else None for side in (found["start"], found["stop"])
    ]
    given = [boundary for boundary in boundaries if boundary]
    sides = [side for side in (found["start"], found["stop"]) if side]
    if not given or len(given) < len(sides):
        raise _wrong(text)
    # As in TFDS, a unit at one boundary is that of both.
    percent = any(boundary["unit"] for boundary in given)
    try:
        start, stop = (
            None if one is None else (float if percent else int)(one["value"]) for one in boundaries
        )
    except ValueError as error:
        raise _wrong(text) from error
    if percent and max(abs(start or 0), abs(stop or 0)) > 100:
        raise UserError(f"split {text!r} has a boundary beyond 100%")
    return Part(found["split"], start, stop, percent)


def _wrong(text: str) -> UserError:
    return UserError(
        f"split {text!r} cannot be read; expected a split or parts of splits, such as train, "
        "train[:98%], train[1000:2000], train[:-100] or train[:10%]+train[90%:]"
    )


def open_parts(text: str, open_whole: Callable[[str], Source]) -> Source:
    """Opens what a split's text asks for; of a slice, images stay in the order of their split.

    Args:
      text: such as `train[:98%]`.
      open_whole: opens a split by its name.

    Raises:
      UserError: for a text that cannot be read, a split that is not there, a boundary outside of
        it, or splits of other classes added to each other.
    """
    parts, whole = parse_split(text), {}
    for split in dict.fromkeys(part.split for part in parts):
        whole[split] = open_whole(split)
    opened = [_cut(whole[part.split], part) for part in parts]
    for part, source in zip(parts, opened, strict=True):
        if source.class_names != opened[0].class_names:
            raise UserError(
                f"splits {parts[0].split!r} and {part.split!r} have different classes and cannot "
                f"be added as {text!r}"
            )
    return opened[0] if len(opened) == 1 else Joined(opened)


def _cut(source: Source, part: Part) -> Source:
    if part.start is part.stop is None:
        return source
    start, stop = part.bounds(len(source))
    return Subset(source, np.sort(slicing_order(source)[start:stop]))


def slicing_order(source: Source) -> np.ndarray:
    """The images in the order in which slices are taken, int [N]: their own, if none is said."""
    order = getattr(source, "slicing_order", None)
    return np.arange(len(source)) if order is None else order()
