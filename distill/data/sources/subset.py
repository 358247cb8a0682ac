"""Some images of a source, and several sources one after another."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distill.data.sources.base import (
    Derived,
    Source,
    attributes_of,
    cached_property,
    captions_of,
    fingerprint_of,
    is_remote,
    version_of,
)
from distill.data.spec import Example


class Subset(Derived):
    """Some images of a source, in the order given.

    Args:
      source: where they are.
      indices: which ones, int [N].
    """

    def __init__(self, source: Source, indices: np.ndarray):
        super().__init__(source)
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def labels(self) -> np.ndarray:
        """Of these images, int32 [N]."""
        return self._source.labels[self._indices]

    def read(self, index: int) -> Example:
        """Reads the example from the source."""
        return self._source.read(int(self._indices[index]))

    def describe(self, index: int) -> str:
        """What the source says of the image."""
        return self._source.describe(int(self._indices[index]))

    def name(self, index: int) -> str:
        """What the source calls the image."""
        return self._source.name(int(self._indices[index]))

    def attributes(self, index: int) -> dict[str, Any]:
        """What else the source says of the image."""
        return attributes_of(self._source, int(self._indices[index]))

    def captions(self, index: int) -> tuple[str, ...]:
        """The texts that go with the image in the source."""
        return captions_of(self._source, int(self._indices[index]))

    @property
    def proportions(self) -> Mapping[str, tuple[int, float]]:
        """Empty: some images of a mixture are none."""
        return {}

    @property
    def found(self) -> str:
        """How many of what the source found."""
        return f"{len(self):,} of {self._source.found}"

    @cached_property
    def fingerprint(self) -> str:
        """Of the source's fingerprint, which of its images these are, and their classes."""
        indices = np.asarray(self._indices, "<i8").tobytes()
        return fingerprint_of(self._source.fingerprint, indices, self.class_names)


class Joined:
    """The images of several sources with the same classes, one source after another."""

    def __init__(self, sources: Sequence[Source]):
        self.class_names = sources[0].class_names
        self.spec = sources[0].spec
        self._sources = tuple(sources)
        self._ends = np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @cached_property
    def labels(self) -> np.ndarray:
        """Of all images, int32 [N]."""
        return np.concatenate([source.labels for source in self._sources])

    def _locate(self, index: int) -> tuple[Source, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        source = self._sources[number]
        return source, int(index - self._ends[number] + len(source))

    def read(self, index: int) -> Example:
        """Reads the example from its source."""
        source, place = self._locate(index)
        return source.read(place)

    def describe(self, index: int) -> str:
        """What the image's source says of it."""
        source, place = self._locate(index)
        return source.describe(place)

    def name(self, index: int) -> str:
        """What the image's source calls it."""
        source, place = self._locate(index)
        return source.name(place)

    def attributes(self, index: int) -> dict[str, Any]:
        """What else the image's source says of it."""
        return attributes_of(*self._locate(index))

    def captions(self, index: int) -> tuple[str, ...]:
        """The texts that go with the image in its source."""
        return captions_of(*self._locate(index))

    @property
    def is_remote(self) -> bool:
        """Whether one of the sources waits for a network."""
        return any(map(is_remote, self._sources))

    @property
    def found(self) -> str:
        """What each source found."""
        return " + ".join(source.found for source in self._sources)

    @cached_property
    def fingerprint(self) -> str:
        """Of the sources' fingerprints."""
        return fingerprint_of(*(source.fingerprint for source in self._sources))

    @property
    def version(self) -> str:
        """Of the sources' versions."""
        return fingerprint_of(*(version_of(source) for source in self._sources))
