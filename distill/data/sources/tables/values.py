"""A page's values as they are kept: the page decompressed, or where in the file each value is."""

from typing import NamedTuple, Protocol

import numpy as np

from distill.data.sources.tables import snappy
from distill.data.sources.tables.pages import DamagedPage, Decompress, Read

# What Python takes for an `InFile` and its arrays, about.
_OBJECTS = 700


class Kept(Protocol):
    """A page's values, which can be read one by one."""

    @property
    def nbytes(self) -> int:
        """What it takes of memory."""
        ...

    def get(self, row: int, read: Read) -> bytes | None:
        """The value in a row of the page, None for null.

        Args:
          row: counted from the page's first.
          read: reads the file.

        Raises:
          DamagedPage: if it cannot be had.
        """
        ...


class InMemory(NamedTuple):
    """Values of which the data is kept."""

    data: memoryview
    starts: np.ndarray
    """Where each begins, int [rows]; −1 for null."""
    sizes: np.ndarray
    """How long each is, int [rows]."""

    @property
    def nbytes(self) -> int:
        """What it takes of memory."""
        return len(self.data) + self.starts.nbytes + self.sizes.nbytes

    def get(self, row: int, read: Read) -> bytes | None:
        """The value in a row, None for null; nothing is read."""
        start = self.starts[row]
        return None if start < 0 else bytes(self.data[start : start + self.sizes[row]])


class InFile(NamedTuple):
    """Values of which only the places are kept."""

    place: int
    """Where in the file their data begins."""
    starts: np.ndarray
    """Where each begins in the data, int32 [rows]; −1 for null."""
    sizes: np.ndarray
    """How long each is, int32 [rows]."""
    fragments: np.ndarray | None = None
    """Of data that Snappy compressed, where its fragments begin and end."""
    total: int = 0
    """Bytes of such data, decompressed."""
    decompress: Decompress | None = None

    @property
    def nbytes(self) -> int:
        """What it takes of memory."""
        fragments = 0 if self.fragments is None else self.fragments.nbytes
        return _OBJECTS + self.starts.nbytes + self.sizes.nbytes + fragments

    def get(self, row: int, read: Read) -> bytes | None:
        """The value in a row, None for null; what is read is no more than it takes.

        Raises:
          DamagedPage: if it cannot be decompressed.
        """
        start, size = int(self.starts[row]), int(self.sizes[row])
        if start < 0:
            return None
        if self.fragments is None or self.decompress is None or not size:
            return read(self.place + start, size)
        first, last = start // snappy.FRAGMENT, (start + size - 1) // snappy.FRAGMENT + 1
        before = first * snappy.FRAGMENT
        unpacked = min(last * snappy.FRAGMENT, self.total) - before
        begin, end = map(int, self.fragments[[first, last]])
        packed = snappy.alone(read(self.place + begin, end - begin), unpacked)
        try:
            data = self.decompress(memoryview(packed), unpacked)
        except (OSError, ValueError) as error:
            raise DamagedPage(f"a page that cannot be decompressed ({error})") from error
        return bytes(memoryview(data)[start - before : start - before + size])
