"""Images in rows of tables, read at random by the index of all images in shards."""

import collections
import dataclasses
import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from distill.data.sources.base import CorruptImage, cached_property, fingerprint_of, printable
from distill.data.sources.class_lists import label_text
from distill.data.sources.image_index import ENTRY, Label, Shard, ShardImages
from distill.data.sources.indexed_images import IndexedImages
from distill.data.sources.tables.columns import Columns
from distill.errors import UserError

NULL, OUTSIDE = -1, -2
"""In place of where an image's bytes begin: there is none; its name is the path of its file."""


class Places(NamedTuple):
    """Where values lie in a buffer."""

    starts: np.ndarray
    """Where each begins, int64 [rows]; `NULL` where there is none."""
    sizes: np.ndarray
    """How long each is, int64 [rows]."""


def places_in(array: Any) -> tuple[Any, Places]:
    """An array's buffer of values, and where in it they lie.

    Args:
      array: Arrow's, of binary or large_binary.
    """
    import pyarrow as pa

    width = np.int64 if pa.types.is_large_binary(array.type) else np.int32
    _, offsets, data = array.buffers()
    count = len(array)
    if not count:
        return data, Places(np.zeros(0, np.int64), np.zeros(0, np.int64))
    ends = np.frombuffer(offsets, width, count + 1, array.offset * width().itemsize)
    ends = ends.astype(np.int64)
    starts, sizes = ends[:-1].copy(), np.diff(ends)
    missing = array.is_null().to_numpy(zero_copy_only=False)
    starts[missing], sizes[missing] = NULL, 0
    return data, Places(starts, sizes)


def rows_of(
    shard: Shard, where: str, places: Places, paths: Any, labels: Any, columns: Columns
) -> ShardImages:
    """The rows of a table's file, as an index has them.

    Args:
      shard: the file.
      where: it is, for errors.
      places: of the images in it.
      paths: Arrow's array of the files that images without bytes lie in, or None.
      labels: Arrow's array of labels, or None.
      columns: what they are.

    Raises:
      UserError: for a label that is no class's, or an image that is on another machine.
    """
    count = len(places.starts)
    entries = np.zeros(count, ENTRY)
    entries["offset"], entries["length"] = places
    names = [b"%d" % row for row in range(count)]
    if paths is not None:
        for row in np.flatnonzero(places.starts == NULL).tolist():
            path = paths[row].as_py()
            if path is None:
                continue
            if "://" in path:
                raise UserError(
                    f"{where} row {row} has no bytes but the place of an image, {printable(path)}, "
                    "which is not on this machine. Save the data set with its images, as "
                    "Dataset.save_to_disk and Dataset.to_parquet do"
                )
            names[row], entries["offset"][row] = os.fsencode(path), OUTSIDE
    entries["name_end"] = np.cumsum([len(name) for name in names])
    entries["label"], texts = (-1, ()) if labels is None else _numbered(labels, columns, where)
    return ShardImages(dataclasses.replace(shard, images=count), entries, b"".join(names), texts)


def _numbered(column: Any, columns: Columns, where: str) -> tuple[np.ndarray, tuple[Label, ...]]:
    """Of each row the number of its label, −1 for none, and these labels."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type):
        column = column.cast(pa.int64())
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    # Of several chunks, some versions give several chunks again.
    column = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    coded = column.dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    numbers: dict[str, int] = {}
    table = np.full(len(coded.dictionary) + 1, -1, np.int32)
    for code, value in enumerate(coded.dictionary.to_pylist()):
        try:
            text = _text(value, columns)
        except UserError as error:
            row = int(np.flatnonzero(codes == code)[0])
            raise UserError(f"{where} row {row}: {error}") from error
        if text is not None:
            table[code] = numbers.setdefault(text, len(numbers))
    return table[codes], tuple(map(Label, numbers))


def _text(value: Any, columns: Columns) -> str | None:
    names = columns.class_names
    if not names or isinstance(value, str):
        return label_text(value)
    if not -1 <= value < len(names):
        raise UserError(
            f"the label {value} in column {columns.label!r} is that of no class; expected a "
            f"number below {len(names):,}, or -1 for none"
        )
    # By its name: a class may be called by another's number.
    return names[value] if value >= 0 else None


class TableImages(IndexedImages):
    """Images in rows of tables; takes what `IndexedImages` takes."""

    def encoded(self, index: int) -> bytes:
        """The bytes of the image's file."""
        row = int(self._rows[index])
        start = self._index.entries["offset"][row]
        if start == OUTSIDE:
            return self._storage.read(os.path.join(self._index.root, self._index.name(row)))
        return checked(None) if start == NULL else super().encoded(index)

    @cached_property
    def fingerprint(self) -> str:
        """Of the files' names and sizes, the rows, their labels, and the classes' names."""
        sizes = [(shard.name, shard.size) for shard in self._shards]
        return fingerprint_of(super().fingerprint, sizes)


def checked(data: bytes | None) -> bytes:
    """The bytes of an image's file.

    Raises:
      CorruptImage: if there are none.
    """
    if data is None:
        raise CorruptImage("there is no image in this row, it is null")
    if not data:
        raise CorruptImage("it is empty, 0 bytes")
    return data


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


Kept = TypeVar("Kept", bound=_Sized)


class Recent(threading.local):
    """What each thread has used last, however large, and before that up to so many bytes.

    Threads share nothing, so that none waits for another, in forked processes neither.
    """

    def __init__(self, most: int):
        self._most, self._size = most, 0
        self._kept: collections.OrderedDict[Hashable, _Sized] = collections.OrderedDict()

    def __reduce__(self):
        return Recent, (self._most,)

    def get(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """What is kept by this key, or what `make` returns."""
        value: Any = self._kept.pop(key, None)
        if value is None:
            value = make()
            self._size += value.nbytes
        self._kept[key] = value
        while self._size > self._most and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._size -= oldest.nbytes
        return value
