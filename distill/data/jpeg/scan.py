"""Where in the bits of a JPEG's scan its blocks lie (ITU-T T.81, annex F.2)."""

import dataclasses

import numpy as np

from distill.data.jpeg import huffman
from distill.data.jpeg.errors import UnsupportedJpeg
from distill.data.jpeg.header import Header

_EOI = 0xD9
# Bits are looked at 16 at a time, and the longest code ends 32 after its first.
_BEYOND = bytes(8)


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

    Raises:
      UnsupportedJpeg: if there are not as many as there should be, or the image does not end.
    """
    file = np.frombuffer(data, np.uint8, offset=header.scan)
    at = np.flatnonzero(file[:-1] == 0xFF)
    codes = file[at + 1]
    at, codes = at[codes != 0], codes[codes != 0]
    rows, columns = header.mcus
    parts = -(-rows * columns // header.interval) if header.interval else 1
    expected = 0xD0 | np.arange(parts) & 7
    expected[-1] = _EOI
    if not np.array_equal(codes[:parts], expected):
        raise UnsupportedJpeg(
            f"its scan is no {parts} parts with restart markers between them and an end"
        )
    return np.concatenate([[0], at[:parts] + 2]).astype(np.uint32) + np.uint32(header.scan)


def blocks(data: bytes, header: Header) -> Blocks:
    """Decodes as much of the scan as it takes to find its blocks.

    Raises:
      UnsupportedJpeg: if it is damaged.
    """
    bounds = segments(data, header).tolist()
    parts = [
        data[begin : end - 2].replace(b"\xff\x00", b"\xff")
        for begin, end in zip(bounds, bounds[1:], strict=False)
    ]
    ends = 8 * np.cumsum([len(part) for part in parts])
    stream = np.frombuffer(b"".join(parts) + _BEYOND, np.uint8)
    windows = _windows(stream)
    rows, columns = header.mcus
    begins, lasts = _walk(header, windows, ends.tolist(), rows * columns)
    of_mcu = np.array(header.blocks)
    components = np.tile(of_mcu, rows * columns)
    prefixes, differences = _differences(header, windows, begins, components)
    interval = header.interval or rows * columns
    dc = np.empty_like(differences)
    for number in range(len(header.components)):
        # Whole intervals, the last filled up: each begins to count at 0.
        own = differences[components == number].reshape(rows * columns, -1)
        filled = np.zeros((len(parts) * interval, own.shape[1]), np.int64)
        filled[: len(own)] = own
        sums = filled.reshape(len(parts), -1).cumsum(axis=1).reshape(filled.shape)
        dc[components == number] = sums[: len(own)].reshape(-1)
    if np.abs(dc).max() > 2047:
        raise UnsupportedJpeg("its coefficients are out of range")
    return Blocks(np.unpackbits(stream), begins, lasts, prefixes, dc, differences)


def _windows(stream: np.ndarray) -> np.ndarray:
    """At each bit the next 16, uint16 [bits]."""
    wide = stream.astype(np.uint32)
    wide = wide[:-2] << 16 | wide[1:-1] << 8 | wide[2:]
    return np.stack([wide >> (8 - bit) for bit in range(8)], -1).astype(np.uint16).reshape(-1)


def _walk(
    header: Header, windows: np.ndarray, ends: list[int], mcus: int
) -> tuple[np.ndarray, np.ndarray]:
    """First bits and ends of all blocks of `mcus`, whose parts end at these bits."""
    tables = {}
    for component in header.components:
        if component.ac not in tables:
            tables[component.ac] = [part[windows].tobytes() for part in huffman.runs(component.ac)]
    plan = []
    for number in header.blocks:
        component = header.components[number]
        length, size = huffman.differences(component.dc)
        # Where there is no such code, beyond any end.
        prefix = np.where(length, length + size, 1 << 40).tolist()
        plan.append((prefix, *tables[component.ac], component.ac))
    begins, lasts, begin = [], [], 0
    next_bits = memoryview(windows)
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


def _walk_part(plan: list, windows: memoryview, at: int, mcus: int) -> tuple[list[int], int]:
    """First bits of the blocks of so many MCUs, and the end of the last."""
    begins = []
    for _ in range(mcus):
        for prefix, bits, steps, table in plan:
            begins.append(at)
            at += prefix[windows[at]]
            first, coefficient = at, 1
            while coefficient < 64:
                coefficient += steps[at]
                at += bits[at]
            if coefficient != 64 and not huffman.END < coefficient < huffman.END + 64:
                at = _walk_block(table, windows, first)
    return begins, at


def _walk_block(table: bytes, windows: memoryview, at: int) -> int:
    """The end of a block whose AC coefficients begin here, one by one."""
    bits, steps = huffman.coefficients(table)
    coefficient = 1
    while coefficient < 64:
        window = windows[at]
        coefficient += int(steps[window])
        at += int(bits[window])
    if coefficient != 64 and not huffman.END < coefficient < huffman.END + 64:
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
    values = windows[begins + lengths].astype(np.int64) >> (16 - sizes)
    # The lower half stands for negative ones (T.81, F.2.2.1).
    lowest = np.where(sizes > 0, 1 << np.maximum(sizes - 1, 0), 0)
    return lengths + sizes, np.where(values < lowest, values - (1 << sizes) + 1, values)
