"""Where in the bits of a JPEG's scan its blocks lie (ITU-T T.81, annex F.2)."""

import dataclasses
import functools
import itertools
from typing import NamedTuple

import numpy as np

from distill.data.jpeg import huffman
from distill.data.jpeg.errors import UnsupportedJpeg
from distill.data.jpeg.header import Header

_EOI = 0xD9
# Bits are looked at 16 at a time, and the longest code ends 32 after its first.
_BEYOND = bytes(8)


class _Tables(NamedTuple):
    """Of a block, by the next 16 bits, how many bits to go on by, and how many coefficients."""

    prefix: bytes
    """Bits of the DC coefficient."""
    bits: bytes
    """Of as many AC coefficients as the 16 hold the codes of."""
    steps: bytes
    bits_of_one: bytes
    """Of a single AC coefficient."""
    steps_of_one: bytes


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The blocks of a scan, in its order."""

    bits: np.ndarray
    """Of the whole scan without markers and stuffing, uint8 [bits]."""
    begins: np.ndarray
    """Of each block the first bit, int64 [MCUs × blocks of an MCU]."""
    ends: np.ndarray
    """Of each block the bit after its last."""
    prefixes: np.ndarray
    """Of each block how many bits its DC coefficient takes."""
    dc: np.ndarray
    """Of each block the DC coefficient itself, quantised."""
    differences: np.ndarray
    """Of each block, what is coded of its DC coefficient."""


def segments(data: bytes, header: Header) -> np.ndarray:
    """Where in the file the parts between restart markers lie.

    Returns:
      uint32 [segments + 1]: their first bytes, and at last that after the image. The marker of two
      bytes after each part is counted to it.

    Where their lengths are recorded only the last is looked at, as all are when they are cut out.

    Raises:
      UnsupportedJpeg: if there are not as many as there should be, or the image does not end.
    """
    recorded = np.frombuffer(header.lengths, ">u2", len(header.lengths) // 2)
    if len(recorded) == _part_count(header):
        bounds = np.concatenate([[header.scan], recorded]).cumsum()
        # Another program may have written the scan anew and kept what it does not know.
        if data[bounds[-1] - 2 : bounds[-1]] == bytes((0xFF, _EOI)):
            return bounds.astype(np.uint32)
    return _found_segments(data, header)


def _found_segments(data: bytes, header: Header) -> np.ndarray:
    """As `segments`, of what stands in the scan alone."""
    parts, file = _part_count(header), np.frombuffer(data, np.uint8)
    at = np.flatnonzero(file[header.scan : -1] == 0xFF) + header.scan
    at = at[file[at + 1] != 0]
    # A damaged header may speak of more than fit into memory.
    if len(at) < parts or not _are_there(file, at[:parts] + 2):
        raise UnsupportedJpeg(
            f"its scan is not {parts} part(s) with restart markers between them and an end"
        )
    return np.concatenate([[header.scan], at[:parts] + 2]).astype(np.uint32)


def _part_count(header: Header) -> int:
    """How many parts the scan should have."""
    rows, columns = header.mcus
    return -(-rows * columns // header.interval) if header.interval else 1


@functools.lru_cache(1024)
def markers(parts: int) -> np.ndarray:
    """Second bytes of the markers after so many parts, uint8: restart markers, and the end."""
    codes = 0xD0 | np.arange(parts) & 7
    codes[-1] = _EOI
    return codes.astype(np.uint8)


def _are_there(file: np.ndarray, ends: np.ndarray) -> bool:
    """Whether parts with their markers end here."""
    return (file[ends - 2] == 0xFF).all() and (file[ends - 1] == markers(len(ends))).all()


def blocks(data: bytes, header: Header) -> Blocks:
    """Decodes as much of the scan as it takes to find its blocks.

    Raises:
      UnsupportedJpeg: if it is damaged.
    """
    bounds = _found_segments(data, header).tolist()
    parts = [
        data[begin : end - 2].replace(b"\xff\x00", b"\xff")
        for begin, end in itertools.pairwise(bounds)
    ]
    ends = 8 * np.cumsum([len(part) for part in parts])
    stream = np.frombuffer(b"".join(parts) + _BEYOND, np.uint8)
    windows = _windows(stream)
    rows, columns = header.mcus
    begins, lasts = _walk(header, windows, ends.tolist(), rows * columns)
    components = np.tile(header.blocks, rows * columns)
    prefixes, differences = _differences(header, windows, begins, components)
    dc = np.empty_like(differences)
    for number in range(len(header.components)):
        own = differences[components == number].reshape(rows * columns, -1)
        dc[components == number] = _sums(own, header.interval).reshape(-1)
    if np.abs(dc).max() > 2047:
        raise UnsupportedJpeg("its coefficients are out of range")
    return Blocks(np.unpackbits(stream), begins, lasts, prefixes, dc, differences)


def _sums(differences: np.ndarray, interval: int) -> np.ndarray:
    """DC coefficients from their differences, int64 [MCUs, blocks], from 0 at each interval."""
    count, blocks = differences.shape
    interval = min(interval, count) or count
    # The last interval filled up.
    whole = np.zeros((-(-count // interval) * interval, blocks), np.int64)
    whole[:count] = differences
    return whole.reshape(-1, interval * blocks).cumsum(axis=1).reshape(-1, blocks)[:count]


def _windows(stream: np.ndarray) -> np.ndarray:
    """At each bit the next 16, uint16 [bits]."""
    wide = stream.astype(np.uint32)
    wide = wide[:-2] << 16 | wide[1:-1] << 8 | wide[2:]
    return np.stack([wide >> (8 - bit) for bit in range(8)], -1).astype(np.uint16).reshape(-1)


def _walk(
    header: Header, windows: np.ndarray, ends: list[int], mcus: int
) -> tuple[np.ndarray, np.ndarray]:
    """First bits and ends of all blocks of `mcus`, whose parts end at these bits."""
    components = [header.components[number] for number in header.blocks]
    plan = [_tables(component.dc, component.ac) for component in components]
    begins, lasts, begin = [], [], 0
    next_bits = windows.data
    interval = header.interval or mcus
    for end in ends:
        here = min(interval, mcus)
        mcus -= here
        try:
            found, at = _walk_part(plan, next_bits, begin, here)
        except IndexError:
            raise UnsupportedJpeg("its scan is damaged") from None
        if not end - 8 < at <= end:
            raise UnsupportedJpeg("its scan is damaged")
        begins += found
        lasts += [*found[1:], at]
        begin = end
    return np.array(begins), np.array(lasts)


@functools.lru_cache(16)
def _tables(dc: bytes, ac: bytes) -> _Tables:
    """Of a component that is coded by these tables."""
    length, size = huffman.differences(dc)
    tables = length + size, *huffman.runs(ac), *huffman.coefficients(ac)
    return _Tables(*(table.tobytes() for table in tables))


def _walk_part(
    plan: list[_Tables], windows: memoryview, at: int, mcus: int
) -> tuple[list[int], int]:
    """First bits of the blocks of so many MCUs, and the end of the last."""
    begins, whole = [], huffman.WHOLE
    for _ in range(mcus):
        for tables in plan:
            prefix, bits, steps, *_ = tables
            begins.append(at)
            at += prefix[windows[at]]
            first, coefficient = at, 1
            while coefficient < 64:
                window = windows[at]
                coefficient += steps[window]
                at += bits[window]
            if coefficient not in whole:
                at = _last_steps(tables, windows, first)
    return begins, at


def _last_steps(tables: _Tables, windows: memoryview, at: int) -> int:
    """The end of a block whose AC coefficients begin here, the last looked at one by one."""
    coefficient = 1
    while coefficient + tables.steps[windows[at]] < 64:
        coefficient += tables.steps[windows[at]]
        at += tables.bits[windows[at]]
    while coefficient < 64:
        window = windows[at]
        coefficient += tables.steps_of_one[window]
        at += tables.bits_of_one[window]
    if coefficient not in huffman.WHOLE:
        raise UnsupportedJpeg("its scan is damaged")
    return at


def _differences(
    header: Header, windows: np.ndarray, begins: np.ndarray, components: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many bits the DC coefficients take, and the differences they code."""
    lengths, sizes = np.empty_like(begins), np.empty_like(begins)
    for number, component in enumerate(header.components):
        own = components == number
        length, size = huffman.differences(component.dc)
        lengths[own], sizes[own] = length[windows[begins[own]]], size[windows[begins[own]]]
    if not lengths.all():
        raise UnsupportedJpeg("its scan is damaged")
    values = windows[begins + lengths].astype(np.int64) >> (16 - sizes)
    # The lower half stands for negative ones (T.81, F.2.2.1).
    lowest = np.where(sizes > 0, 1 << np.maximum(sizes - 1, 0), 0)
    return lengths + sizes, np.where(values < lowest, values - (1 << sizes) + 1, values)
