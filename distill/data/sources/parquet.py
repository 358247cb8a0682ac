"""Parquet files, of which an image is read without the rest of its row group.

Of pages that are not compressed, the index has where each image lies; of others, in which page it
is. Pages written in a way that is rare for images are read by the row group.
"""

import bisect
import contextlib
import dataclasses
import functools
import io
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from distill.data.sources.base import CorruptImage, Source, printable
from distill.data.sources.decoding import Decoding
from distill.data.sources.formats import Format, Request
from distill.data.sources.image_index import UNKNOWN, ImageIndex, Shard, ShardImages
from distill.data.sources.indexing import open_index
from distill.data.sources.places import storage_of
from distill.data.sources.reading import persistently
from distill.data.sources.sharded import open_sharded
from distill.data.sources.shards import find_shards
from distill.data.sources.tables import pages, snappy
from distill.data.sources.tables.columns import (
    Choice,
    Columns,
    arrow,
    check_columns,
    features_of,
    find_columns,
)
from distill.data.sources.tables.images import (
    NULL,
    Places,
    Recent,
    TableImages,
    checked,
    places_in,
    rows_of,
)
from distill.data.sources.tables.thrift import read_struct
from distill.data.sources.tables.values import InFile, InMemory, Kept
from distill.errors import UserError

_SUFFIXES = (".parquet", ".parq", ".pq")
# What each thread keeps of pages, decompressed.
_KEPT = 64 << 20
# What each process keeps of where in pages images lie, in bytes an image.
_PLACES = 40
# Those that Arrow decompresses as Parquet has them.
_CODECS = ("SNAPPY", "GZIP", "ZSTD", "BROTLI")
# Fields of the footer's structs that lead to the codec of a column's chunk, and how many there are.
_ROW_GROUPS, _COLUMNS, _META_DATA, _CODEC, _KNOWN_CODECS = 4, 1, 3, 4, 8
_MAGIC = b"PAR1"
# Most files have a shorter footer.
_TAIL = 2**16


class Chunk(NamedTuple):
    """The images of a row group."""

    start: int
    """Of its pages, in bytes of the file."""
    stop: int
    rows: int
    codec: str
    deepest: int
    """Definition level of a value that is not null."""
    nulls: int | None
    """How many rows have no value; None where the file does not say."""


class ParquetImages(TableImages):
    """Images in Parquet files.

    Args:
      index: of the images; the length of one that is in a page is −1 − its row there.
      decoding: how they become pixels.
      columns: where they are.
      chosen: what `IndexedImages` takes.
    """

    def __init__(self, index: ImageIndex, decoding: Decoding, *, columns: Columns, **chosen: Any):
        super().__init__(index, decoding, **chosen)
        self._columns = columns
        self._chunks: dict[str, list[Chunk]] = {}
        self._known: dict[tuple[str, int], InFile] = {}
        self._known_size = 0
        self._recent = Recent(_KEPT)

    def __getstate__(self) -> dict[str, Any]:
        # What has been read of files is cheaper read again than handed over.
        return self.__dict__ | {"_chunks": {}, "_known": {}, "_known_size": 0}

    def encoded(self, index: int) -> bytes:
        """The bytes of the image's file."""
        entry = self._index.entries[self._rows[index]]
        start, row = int(entry["offset"]), -1 - int(entry["length"])
        if row < 0:
            return super().encoded(index)
        shard = self._index.shards[entry["shard"]]
        path = os.path.join(self._index.root, shard.name)
        chunks = self._chunks.get(path) or self._chunks.setdefault(
            path, _chunks(_open_file(path, shard), self._columns)
        )
        number = bisect.bisect(chunks, start, key=lambda chunk: chunk.start) - 1

        def read(at: int, size: int) -> bytes:
            return self._storage.read_part(path, shard, at, size)

        try:
            try:
                data = self._page(path, read, start, chunks[number]).get(row, read)
            except pages.OtherEncoding:
                before = sum(chunk.rows for chunk in chunks[:number])
                row = int(self._index.name(self._rows[index])) - before
                group = functools.partial(_group, path, shard, number, self._columns)
                data = self._recent.get((path, -number), group).get(row, read)
        except pages.DamagedPage as error:
            raise CorruptImage(f"it is in {error}, at byte {start:,}") from error
        return checked(data)

    def _page(self, path: str, read: pages.Read, start: int, chunk: Chunk) -> Kept:
        """What is known of a page's values, which are looked for once where that is enough."""
        known = self._known.get((path, start))
        if known is not None:
            return known
        page = self._recent.get((path, start), lambda: _values(read, start, chunk))
        if isinstance(page, InFile) and self._known_size < _PLACES * len(self):
            self._known[path, start] = page
            self._known_size += page.nbytes
        return page


def _values(read: pages.Read, start: int, chunk: Chunk) -> Kept:
    """The values of a page."""
    if chunk.codec not in (*_CODECS, "UNCOMPRESSED"):
        raise pages.OtherEncoding
    page = pages.read_page(read, start, chunk.stop)
    unpack = functools.partial(_unpack, chunk.codec)
    # A column's dictionary is the first of its pages.
    dictionary = functools.partial(pages.read_page, read, chunk.start, chunk.stop)
    values = pages.values_of(page, chunk.deepest, unpack, dictionary)
    body = values.body
    place = body.place + (chunk.start if values.by_dictionary else start)
    # No page has 2 GiB.
    starts, sizes = values.starts.astype(np.int32), values.sizes.astype(np.int32)
    if chunk.codec == "UNCOMPRESSED" or not body.header.compressed:
        return InFile(place, starts, sizes)
    fragments = snappy.fragments(body.packed) if chunk.codec == "SNAPPY" else None
    if fragments is None:
        return InMemory(body.data, starts, sizes)
    return InFile(place, starts, sizes, fragments, len(body.data), unpack)


def _unpack(codec: str, data: memoryview, size: int) -> Any:
    if codec == "UNCOMPRESSED":
        return data
    import pyarrow as pa

    return pa.decompress(data, decompressed_size=size, codec=codec.lower())


def _open_file(path: str, shard: Shard) -> Any:
    """The Parquet file, by Arrow."""
    parquet = arrow().parquet

    def opened() -> Any:
        file = parquet.ParquetFile(storage_of(path).seekable(path, shard))
        _check_codecs(storage_of(path).read_end(path, shard, file.metadata.serialized_size + 8))
        return file

    try:
        return _by_arrow(opened, path)
    except pages.DamagedPage as error:
        raise _damaged(path, error) from error


def _sized(path: str, shard: Shard) -> Shard:
    """The shard with its size, where only reading tells it: it is at least what its footer says."""
    if shard.size != UNKNOWN:
        return shard
    files, parquet = storage_of(path), arrow().parquet
    end = files.read_end(path, shard, _TAIL)
    footer = int.from_bytes(end[-8:-4], "little") + 8
    if footer > len(end):
        end = files.read_end(path, shard, footer)
    try:
        metadata = _by_arrow(lambda: parquet.read_metadata(io.BytesIO(end)), path)
    except pages.DamagedPage as error:
        raise _damaged(path, error) from error
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    chunks = (group.column(number) for group in groups for number in range(group.num_columns))
    data = max((_bounds(chunk)[1] for chunk in chunks), default=len(_MAGIC))
    return dataclasses.replace(shard, size=files.end(path, shard, data + footer - 1))


def _by_arrow(read: Callable[[], Any], path: str) -> Any:
    """What Arrow reads, tried again where the system fails.

    Raises:
      DamagedPage: if it cannot be decoded.
    """

    def attempt() -> Any:
        try:
            return read()
        except (OSError, ValueError, arrow().ArrowException) as error:
            # The system's errors have numbers, Arrow's own have none.
            if getattr(error, "errno", None):
                raise
            reason = str(error).strip().partition("\n")[0]
            raise pages.DamagedPage(f"data that Arrow does not read ({reason})") from error

    return persistently(attempt, path)


def _check_codecs(footer: bytes) -> None:
    """Sees that all are known: of one that is not, Arrow ends the process when it is asked.

    Raises:
      ValueError: if one is not.
    """
    about, _ = read_struct(footer)
    try:
        chunks = [chunk for group in about[_ROW_GROUPS] for chunk in group[_COLUMNS]]
        codecs = {chunk[_META_DATA][_CODEC] for chunk in chunks}
        unknown = codecs - {*range(_KNOWN_CODECS)}
    except (KeyError, TypeError) as error:
        raise ValueError("a footer of another form") from error
    if unknown:
        raise ValueError(f"a compression with the unknown number {min(unknown)}")


def _damaged(path: str, why: object) -> UserError:
    return UserError(f"{printable(path)} is damaged or no Parquet file: {why}. Copy it again")


def _chunks(file: Any, columns: Columns) -> list[Chunk]:
    """The images of each row group."""
    schema, metadata = file.schema, file.metadata
    paths = [schema.column(number).path for number in range(len(schema))]
    number = paths.index(columns.encoded)
    deepest = schema.column(number).max_definition_level
    found = []
    for group in range(metadata.num_row_groups):
        chunk = metadata.row_group(group).column(number)
        start, stop = _bounds(chunk)
        counts = chunk.statistics if chunk.is_stats_set else None
        nulls = counts.null_count if counts and counts.has_null_count else None
        nulls = nulls if deepest else 0
        found.append(Chunk(start, stop, chunk.num_values, chunk.compression, deepest, nulls))
    return found


def _bounds(chunk: Any) -> tuple[int, int]:
    """The first byte of a column's chunk, and the one after its last."""
    start = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)))
    return start, start + chunk.total_compressed_size


def _group(path: str, shard: Shard, number: int, columns: Columns) -> InMemory:
    """The values of a whole row group, read by Arrow."""
    import pyarrow as pa

    file = _open_file(path, shard)
    table = _by_arrow(lambda: file.read_row_group(number, columns=[columns.encoded]), path)
    data, places = places_in(_bytes_of(table, columns).cast(pa.large_binary()).combine_chunks())
    return InMemory(memoryview(data or b""), places.starts, places.sizes)


def _bytes_of(table: Any, columns: Columns) -> Any:
    import pyarrow.compute

    # Its functions are made when it is imported.
    functions: Any = pyarrow.compute
    column = table.column(columns.image)
    return functions.struct_field(column, "bytes") if columns.nested else column


def scan_parquet(path: str, shard: Shard, columns: Columns) -> ShardImages:
    """Finds the images in a Parquet file, reading labels and the headers of pages alone.

    Raises:
      UserError: if it is damaged, or its columns are others than the first file's.
      RunFailed: if the system fails to read it.
    """
    return persistently(lambda: _scan(path, shard, columns), path)


def _scan(path: str, shard: Shard, columns: Columns) -> ShardImages:
    where = printable(path)
    shard = _sized(path, shard)
    file = _open_file(path, shard)
    check_columns(file.schema_arrow, columns, where)
    try:
        places = _all_places(path, shard, _chunks(file, columns), columns)
        if len(places.starts) != file.metadata.num_rows:
            rows = f"{len(places.starts):,} of {file.metadata.num_rows:,} rows"
            raise _damaged(path, f"its pages hold {rows}")
        labels = paths = None
        if columns.label:
            asked = [columns.label]
            labels = _by_arrow(lambda: file.read(columns=asked), path).column(columns.label)
        if columns.has_path and (places.starts == NULL).any():
            asked = [f"{columns.image}.path"]
            table = _by_arrow(lambda: file.read(columns=asked), path)
            paths = arrow().compute.struct_field(table.column(columns.image), "path")
    except pages.DamagedPage as error:
        raise _damaged(path, error) from error
    return rows_of(shard, where, places, paths, labels, columns)


def _all_places(path: str, shard: Shard, chunks: list[Chunk], columns: Columns) -> Places:
    """Starts and sizes of a file's images, those in pages by page and row."""
    with storage_of(path).opened(path, shard) as file:
        found = [_places(lambda at, size: file.read(size, at), chunk) for chunk in chunks]
    for number, (chunk, (starts, sizes)) in enumerate(zip(chunks, found, strict=True)):
        # Which of the images lie in files of their own has to be known.
        if chunk.nulls and columns.has_path and (sizes < 0).any():
            missing = _group(path, shard, number, columns).starts < 0
            starts[missing], sizes[missing] = NULL, 0
    nothing = np.zeros(0, np.int64)
    starts, sizes = zip((nothing, nothing), *found, strict=True)
    return Places(np.concatenate(starts), np.concatenate(sizes))


def _places(read: pages.Read, chunk: Chunk) -> tuple[np.ndarray, np.ndarray]:
    """Starts and sizes of a row group's images, those in pages by page and row."""
    starts, sizes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start, header in pages.walk(read, chunk.start, chunk.stop):
        if not header.is_data:
            continue
        here = np.full(header.values, start, np.int64), -1 - np.arange(header.values)
        if header.is_read(chunk.deepest) and chunk.codec == "UNCOMPRESSED" and header.is_plain:
            # Whoever reads an image of one that is damaged is told.
            with contextlib.suppress(pages.DamagedPage):
                here = pages.hop(read, start, header, chunk.deepest)
        starts.append(here[0])
        sizes.append(here[1])
    return np.concatenate(starts), np.concatenate(sizes)


def _open(request: Request) -> Source:
    path, choice = Choice.parse(request.argument)
    shards = find_shards(
        path,
        lambda name: name.lower().endswith(_SUFFIXES),
        "a folder with *.parquet, or a pattern such as data/train-*.parquet",
    )
    first = os.path.join(shards.root, shards.names[0])
    about = Shard(first, *storage_of(first).status(first))
    schema = _open_file(first, _sized(first, about)).schema_arrow
    folders = [os.path.dirname(first), shards.root, os.path.dirname(shards.root)]
    columns = find_columns(schema, features_of(schema, folders), choice, printable(first))
    scan = functools.partial(scan_parquet, columns=columns)
    index = open_index(f"parquet-{columns.digest}", shards, scan)
    kind: Callable[..., ParquetImages] = functools.partial(ParquetImages, columns=columns)
    return open_sharded(request, shards, index, kind, class_names=columns.class_names)


FORMATS = (Format(name="parquet", argument="PATH", in_buckets=True, open=_open),)
