"""What an example holds: arrays by name, and what each of them is to a view of the image.

A source says it beforehand, and everything that needs the shape of an example or of a batch reads
it there. Runs in the processes that decode, and so without JAX.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from distill.errors import RunFailed
from distill.evaluation_view import Filter

Example = dict[str, Any]
"""Arrays by name."""

Cut = Callable[[np.ndarray, Filter | None], np.ndarray]
"""Cuts one view out of pixels [height, width, C], by a filter or, for None, by the view's own:
[size, size, C] of the same dtype, uint8, int32 or float32."""


Draw = Callable[[], np.random.Generator]
"""Makes the random numbers by which a view's part of what is no pixels is drawn."""


class ArraySpec(abc.ABC):
    """What one array of an example is."""

    dtype: np.dtype
    shape: tuple[int | None, ...] = ()
    """Of the array in its source; None, at the beginning, for the image's height and width."""
    fill: ClassVar[float] = 0
    """What rows of a batch hold that are no image."""

    def chosen(self, array: Any, draw: Draw | None) -> Any:
        """What of the array a view is of, before it is seen: all of it.

        Args:
          array: of the example.
          draw: None for views in which nothing is drawn.
        """
        return array

    @abc.abstractmethod
    def seen(self, array: Any, cut: Cut) -> Any:
        """The array beside a view of its image."""

    def viewed_shape(self, size: int) -> tuple[int, ...]:
        """Of the array beside views with sides of `size` pixels."""
        return tuple(size if side is None else side for side in self.shape)

    def missing(self, size: int) -> np.ndarray:
        """What stands in a row that is no image."""
        return np.full(self.viewed_shape(size), self.fill, self.dtype)

    def holds(self, array: Any) -> bool:
        """Whether an array is of this dtype and shape."""
        try:
            dtype, found, expected = array.dtype, array.shape, self.shape
        except AttributeError:
            return False
        if dtype != self.dtype:
            return False
        if found == expected:
            return True
        free = expected.count(None)
        return len(found) == len(expected) and found[free:] == expected[free:]

    def __str__(self) -> str:
        sides = ", ".join("any" if side is None else str(side) for side in self.shape)
        return f"{self.dtype} [{sides}]"


ExampleSpec = Mapping[str, ArraySpec]
"""What examples of a source hold, by name. `image` is the image, `label` its class among the
source's `class_names`, `classes` its classes where it has several; all other names are free."""


@dataclasses.dataclass(frozen=True)
class ImageSpec(ArraySpec):
    """Pixels, uint8 [height, width, channels]; resized by the view's filter."""

    channels: int
    dtype: ClassVar = np.dtype(np.uint8)

    @functools.cached_property
    def shape(self) -> tuple[int | None, ...]:
        """Of an image of any size."""
        return (None, None, self.channels)

    def seen(self, array: np.ndarray, cut: Cut) -> np.ndarray:
        """The view, uint8 [size, size, channels]."""
        return cut(array, None)


class _AsItIs(ArraySpec):
    """What an image has as a whole, whatever part of it is seen."""

    def seen(self, array: Any, cut: Cut) -> Any:
        """The same array."""
        return array


@dataclasses.dataclass(frozen=True)
class LabelSpec(_AsItIs):
    """The number of a class, int32 []; −1 where there is none."""

    dtype: ClassVar = np.dtype(np.int32)


@dataclasses.dataclass(frozen=True)
class ClassesSpec(_AsItIs):
    """Which of the classes an image has, float32 [count] of 0 and 1."""

    count: int
    dtype: ClassVar = np.dtype(np.float32)

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """One number for each class."""
        return (self.count,)


@dataclasses.dataclass(frozen=True)
class TokensSpec(_AsItIs):
    """Text as numbers of tokens, int32 [length]; how it is padded is its tokeniser's."""

    length: int
    dtype: ClassVar = np.dtype(np.int32)

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """One number for each token."""
        return (self.length,)


@dataclasses.dataclass(frozen=True)
class TextSpec(_AsItIs):
    """Text, `str` or `bytes`; no batch holds it (see `distill.data.transforms`)."""

    dtype: ClassVar = np.dtype(np.str_)

    def holds(self, array: Any) -> bool:
        """Whether it is text."""
        return isinstance(array, str | bytes)

    def __str__(self) -> str:
        return "text"


@dataclasses.dataclass(frozen=True)
class MaskSpec(ArraySpec):
    """The class of each pixel, int [height, width]; of a view, each pixel's is that of the nearest.

    Raises:
      ValueError: if what stands for no class is a class.
    """

    class_names: tuple[str, ...]
    """In the order of their numbers; they are not those of the image as a whole."""
    ignore: int = 255
    """Of pixels that have none of the classes."""
    shape: ClassVar = (None, None)

    def __post_init__(self):
        if 0 <= self.ignore < len(self.class_names):
            raise ValueError(
                f"ignore must be no class's number, but {self.ignore} is that of "
                f"{self.class_names[self.ignore]!r}"
            )

    @functools.cached_property
    def dtype(self) -> np.dtype:
        """Uint8 where all numbers fit, else int32."""
        small = 0 <= self.ignore < 256 and len(self.class_names) <= 256
        return np.dtype(np.uint8 if small else np.int32)

    @property
    def fill(self) -> int:
        """No class."""
        return self.ignore

    def seen(self, array: np.ndarray, cut: Cut) -> np.ndarray:
        """The same part as is seen of the image, int [size, size]."""
        return cut(array[..., None], "nearest")[..., 0]


@dataclasses.dataclass(frozen=True)
class ValuesSpec(ArraySpec):
    """A number for each pixel, such as its depth, float32 [height, width]; NaN where none is known.

    Of a view, each is the mean of what is known there, weighted as by an antialiased bilinear
    filter; NaN where less than half of the weight is on pixels that have a number.
    """

    dtype: ClassVar = np.dtype(np.float32)
    shape: ClassVar = (None, None)
    fill: ClassVar = np.nan

    def seen(self, array: np.ndarray, cut: Cut) -> np.ndarray:
        """The same part as is seen of the image, float32 [size, size]."""
        known = np.isfinite(array)
        weight = cut(known.astype(np.float32)[..., None], "bilinear")[..., 0]
        total = cut(np.where(known, array, np.float32(0))[..., None], "bilinear")[..., 0]
        return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight >= 0.5)


def labelled_images(channels: int) -> ExampleSpec:
    """Of images of which each has one label, or none."""
    return {"image": ImageSpec(channels), "label": LabelSpec()}


class _Readable(Protocol):
    """What is needed of a `distill.data.Source` here."""

    @property
    def spec(self) -> ExampleSpec: ...

    def read(self, index: int) -> Example: ...

    def describe(self, index: int) -> str: ...


def read_example(source: _Readable, index: int) -> Example:
    """Reads an example, and checks that it is what its source says.

    Raises:
      CorruptImage: if the image cannot be decoded.
      RunFailed: if the system cannot read it, or it holds anything else than the source's `spec`
        says.
    """
    example, spec = source.read(index), source.spec
    if example.keys() != spec.keys():
        raise RunFailed(
            f"{source.describe(index)} holds {listed(example)}, but the source's spec says "
            f"{listed(spec)}: give each array its entry"
        )
    sizes = {}
    for name, one in spec.items():
        array = example[name]
        if not one.holds(array):
            raise RunFailed(
                f"{name!r} of {source.describe(index)} is {_described(array)}, but the source's "
                f"spec says {one}"
            )
        if None in one.shape:
            sizes[name] = array.shape[:2]
    if len(sizes) > 1 and len({*sizes.values()}) > 1:
        found = ", ".join(f"{name!r} {h}×{w}" for name, (h, w) in sizes.items())
        raise RunFailed(
            f"{source.describe(index)}: what it has for each pixel differs in height × width: "
            f"{found}. A view can be cut only out of arrays of one size"
        )
    return example


def see(example: Example, spec: ExampleSpec, cut: Cut, draw: Draw | None = None) -> Example:
    """One view of a whole example: the same part of everything that is of its pixels."""
    return {name: one.seen(one.chosen(example[name], draw), cut) for name, one in spec.items()}


def missing(spec: ExampleSpec, size: int) -> Example:
    """What stands in a row of a batch that is no image."""
    return {name: one.missing(size) for name, one in spec.items()}


def listed(names: Mapping[str, Any]) -> str:
    """The names, for people to read."""
    return ", ".join(map(repr, names)) or "nothing"


def _described(array: Any) -> str:
    if hasattr(array, "shape") and hasattr(array, "dtype"):
        return f"{array.dtype} {[*array.shape]}"
    return f"of type {type(array).__name__}"
