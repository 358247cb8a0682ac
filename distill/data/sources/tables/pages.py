"""Pages of a Parquet column of bytes: their headers, and where in them each value is.

https://github.com/apache/parquet-format describes both.
"""

import dataclasses
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from distill.data.sources.tables.thrift import CutOff, read_struct

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_PLAIN, _RLE = 0, 3
_BY_DICTIONARY = (2, 8)
# Most headers are shorter; one with statistics of long values is not.
_HEADER, _LONGEST_HEADER = 256, 2**24

Read = Callable[[int, int], bytes]
"""Reads so many bytes from a place on, fewer only where the file ends."""
Decompress = Callable[[Any, int], Any]
"""Decompresses data to so many bytes; all that gives a view of its bytes will do."""


class DamagedPage(ValueError):
    """A page that is not what its header says; carries the reason."""


class OtherEncoding(Exception):
    """A page whose values are written in a way that is not read here."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What a page's header says."""

    size: int
    """Of the header itself, in bytes."""
    body: int
    """Bytes after it, as they lie in the file."""
    unpacked: int
    """Bytes of the body when it is decompressed."""
    kind: int
    values: int
    """Nulls too."""
    encoding: int
    levels: int | None
    """Bytes of levels before the values, which are not compressed; None where levels lie within
    what is compressed and say themselves how long they are."""
    compressed: bool
    checksum: int | None
    """CRC-32 of the body."""
    levels_encoding: int = _RLE

    def is_read(self, deepest: int) -> bool:
        """Whether its levels are written as they have been since 2013, or are not needed."""
        return not deepest or self.levels_encoding == _RLE

    @property
    def is_data(self) -> bool:
        """Whether it holds rows."""
        return self.kind in (_DATA, _DATA_V2)

    @property
    def is_plain(self) -> bool:
        """Whether values lie in it one after another."""
        return self.encoding == _PLAIN


class Body(NamedTuple):
    """A page's body."""

    header: Header
    levels: memoryview | None
    """That lie apart from `data`."""
    data: memoryview
    """Decompressed."""
    packed: memoryview
    """The same as it lies in the file."""
    place: int
    """Where that begins, in bytes from the page's beginning."""


class Values(NamedTuple):
    """A page's values, one for each row."""

    body: Body
    """Of the page, or of its column's dictionary."""
    by_dictionary: bool
    starts: np.ndarray
    """Where in the body's data each begins, int64 [rows]; −1 for null."""
    sizes: np.ndarray
    """How long each is, int64 [rows]."""


def parse_header(data: bytes) -> Header:
    """The header that the data begins with.

    Raises:
      CutOff: if it is longer than the data.
      DamagedPage: if it is none.
    """
    try:
        fields, size = read_struct(data)
        kind = fields[1]
        about = fields.get({_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}.get(kind, 0), {})
        v2 = kind == _DATA_V2
        header = Header(
            size=size,
            body=fields[3],
            unpacked=fields[2],
            kind=kind,
            values=about.get(1, 0),
            encoding=about.get(4 if v2 else 2, -1),
            levels=about.get(5, 0) + about.get(6, 0) if v2 else None,
            compressed=about.get(7, True),
            checksum=fields.get(4),
            levels_encoding=about.get(3, _RLE) if kind == _DATA else _RLE,
        )
        if min(header.body, header.unpacked, header.values, header.levels or 0) < 0:
            raise DamagedPage("a page with a negative size")
    except CutOff:
        raise
    # What is no header has other fields, and other kinds of them.
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedPage(f"a page whose header is damaged ({error})") from error
    return header


def walk(read: Read, start: int, stop: int) -> Iterator[tuple[int, Header]]:
    """The pages of a column chunk, from the first byte to the one after the last, with places.

    Raises:
      DamagedPage: if one does not follow the other to the end.
    """
    while start < stop:
        header = _header_at(read, start, stop)
        yield start, header
        start += header.size + header.body
    if start > stop:
        raise DamagedPage(f"a page that ends {start - stop:,} bytes after its column")


def read_page(read: Read, start: int, stop: int) -> bytes:
    """The page, with its header, that begins at a place in a column chunk.

    Raises:
      DamagedPage: if there is none.
    """
    header = _header_at(read, start, stop)
    return read(start, header.size + header.body)


def _header_at(read: Read, start: int, stop: int) -> Header:
    size = _HEADER
    while True:
        try:
            return parse_header(read(start, min(size, stop - start)))
        except CutOff as error:
            if size >= min(stop - start, _LONGEST_HEADER):
                raise DamagedPage(str(error)) from error
            size *= 8


def hop(read: Read, start: int, header: Header, deepest: int) -> tuple[np.ndarray, np.ndarray]:
    """Where in the file the values of a plain, uncompressed page are; only lengths are read.

    Args:
      read: reads the file.
      start: of the page.
      header: of the page.
      deepest: definition level of values that are not null.

    Returns:
      Starts, −1 for null, and sizes, int64 [rows].

    Raises:
      DamagedPage: if they do not fill the page.
    """
    place = start + header.size
    stop = place + header.body
    present = np.ones(header.values, bool)
    if deepest:
        size = header.levels
        if size is None:
            size, place = int.from_bytes(read(place, 4), "little"), place + 4
        present = _levels(read(place, min(size, stop - place)), deepest, header.values) == deepest
        place += size
    starts, sizes = np.full(header.values, -1, np.int64), np.zeros(header.values, np.int64)
    for row in np.flatnonzero(present).tolist():
        size = int.from_bytes(read(place, 4), "little")
        starts[row], sizes[row] = place + 4, size
        place += 4 + size
        if place > stop:
            break
    if place != stop:
        raise DamagedPage("a page whose values do not fill it")
    return starts, sizes


def values_of(
    page: bytes, deepest: int, decompress: Decompress, dictionary: Callable[[], bytes]
) -> Values:
    """The values of a page with its header.

    Args:
      page: header and body.
      deepest: definition level of values that are not null.
      decompress: data of the column's codec to so many bytes; raises OSError or ValueError.
      dictionary: reads the column's first page, which values may be numbers of.

    Raises:
      DamagedPage: if it is not what its header says.
      OtherEncoding: if it has to be read otherwise.
    """
    header = _whole_header(page)
    is_known = header.is_plain or header.encoding in _BY_DICTIONARY
    if not is_known or not header.is_read(deepest):
        raise OtherEncoding
    body = _opened(page, decompress)
    rows, levels, place = header.values, body.levels, 0
    if levels is None and deepest:
        place = 4 + int.from_bytes(body.data[:4], "little")
        levels = body.data[4:place]
    present = np.ones(rows, bool)
    if deepest:
        present = _levels(bytes(levels or b""), deepest, rows) == deepest
    starts, sizes = np.full(rows, -1, np.int64), np.zeros(rows, np.int64)
    count = int(np.count_nonzero(present))
    if header.is_plain:
        starts[present], sizes[present] = _plain(body.data, place, count)
        return Values(body, False, starts, sizes)
    entries = _opened(dictionary(), decompress)
    if entries.header.kind != _DICTIONARY:
        raise DamagedPage("a page that has lost its dictionary")
    places, lengths = _plain(entries.data, 0, entries.header.values)
    bits, numbers = bytes(body.data[place : place + 1]), bytes(body.data[place + 1 :])
    chosen = hybrid(numbers, bits[0] if bits else 0, count)
    if count and int(chosen.max()) >= len(places):
        raise DamagedPage("a page that names values its dictionary does not have")
    starts[present], sizes[present] = places[chosen], lengths[chosen]
    return Values(entries, True, starts, sizes)


def _whole_header(page: bytes) -> Header:
    try:
        return parse_header(page)
    except CutOff as error:
        raise DamagedPage(str(error)) from error


def _opened(page: bytes, decompress: Decompress) -> Body:
    header = _whole_header(page)
    body = memoryview(page)[header.size :]
    if len(body) != header.body:
        raise DamagedPage(f"a page of {len(body):,} bytes whose header says {header.body:,}")
    if header.checksum is not None and zlib.crc32(body) != header.checksum & 0xFFFFFFFF:
        raise DamagedPage("a page that does not fit its checksum")
    apart = header.levels or 0
    levels, packed = body[:apart], body[apart:]
    size = header.unpacked - apart
    data = packed
    if header.compressed and len(packed):
        try:
            data = memoryview(decompress(packed, size))
        except (OSError, ValueError) as error:
            raise DamagedPage(f"a page that cannot be decompressed ({error})") from error
    if len(data) != size:
        raise DamagedPage(f"a page of {len(data):,} bytes whose header says {size:,}")
    lying_apart = None if header.levels is None else levels
    return Body(header, lying_apart, data, packed, header.size + apart)


def _plain(data: memoryview, place: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and sizes of so many values, each after its length in four bytes, int64 [count]."""
    starts, sizes = np.empty(count, np.int64), np.empty(count, np.int64)
    total = len(data)
    for number in range(count):
        size = int.from_bytes(data[place : place + 4], "little")
        starts[number], sizes[number] = place + 4, size
        place += 4 + size
        if place > total:
            break
    if place != total:
        raise DamagedPage("a page whose values do not fill it")
    return starts, sizes


def _levels(data: bytes, deepest: int, count: int) -> np.ndarray:
    return hybrid(data, deepest.bit_length(), count)


def hybrid(data: bytes, bits: int, count: int) -> np.ndarray:
    """Numbers written as runs of one number and packed numbers in turns, int64 [count].

    Args:
      data: ends where they do, or later.
      bits: of each number, 0 to 32.
      count: how many there are.

    Raises:
      DamagedPage: if the data has fewer.
    """
    runs, found, place, width = [], 0, 0, -(-bits // 8)
    while found < count:
        head, place = _varint(data, place)
        if head & 1:
            groups = head >> 1
            packed = np.frombuffer(data, np.uint8, min(groups * bits, len(data) - place), place)
            place += groups * bits
            # The last group may be cut short.
            whole = groups * 8 if not bits else min(groups * 8, len(packed) * 8 // bits)
            flags = np.unpackbits(packed, bitorder="little")[: whole * bits]
            run = flags.reshape(whole, bits) @ (1 << np.arange(bits, dtype=np.int64))
        else:
            number = int.from_bytes(data[place : place + width], "little")
            run = np.full(min(head >> 1, count - found), number, np.int64)
            place += width
        if not len(run):
            raise DamagedPage("a page with a run of nothing")
        runs.append(run)
        found += len(run)
    return np.concatenate(runs)[:count] if runs else np.zeros(0, np.int64)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 35:
        value |= (data[place] & 127) << shift
        place, shift = place + 1, shift + 7
        if data[place - 1] < 128:
            return value, place
    raise DamagedPage("a page with fewer numbers than its header says")
