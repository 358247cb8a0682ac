"""The same JPEG with restart markers, so that its parts can be decoded alone."""

import itertools
import math
import struct

import numpy as np

from distill.data.jpeg import huffman
from distill.data.jpeg.header import Header, lengths_segment, parse
from distill.data.jpeg.scan import Blocks, blocks, markers

# In pixels, of a part.
_WIDTH = 32


def restart_interval(header: Header) -> int:
    """The MCUs between restart markers that are best for crops: as near as can be to 32 pixels.

    They divide the MCUs in a row, so that each row begins with a marker. Fewer make the file
    longer, by 3 bytes a marker; of more, more are decoded for nothing at the edges of a crop.
    """
    columns, width = header.mcus[1], header.mcu[1]
    divisors = [n for n in range(1, columns + 1) if columns % n == 0]
    return min(divisors, key=lambda n: abs(math.log(n * width / _WIDTH)))


def with_restarts(data: bytes, interval: int | None = None) -> bytes:
    """The JPEG with a restart marker after each `interval` MCUs, its coefficients as they were.

    A marker makes DC coefficients begin to count anew, so that those of the first block of each
    component after it are coded again (ITU-T T.81, F.1.1.5.1); all other codes are moved as they
    are. How long the parts have become is recorded, metadata kept; further images in the file are
    not.

    Args:
      data: of the whole file.
      interval: a divisor of the MCUs in a row; None for `restart_interval`.

    Raises:
      UnsupportedJpeg: as `parse`, if the scan is damaged, or if its Huffman tables have no room.
      ValueError: if `interval` does not divide the MCUs in a row.
    """
    header = parse(data)
    columns = header.mcus[1]
    interval = restart_interval(header) if interval is None else interval
    if interval < 1 or columns % interval:
        raise ValueError(f"interval must divide the {columns} MCUs in a row, not be {interval}")
    found = blocks(data, header)
    again = _differences(found.dc, header, interval)
    changed = again != found.differences
    tables, codes = _tables(header, again, changed)
    parts = _parts(found, header, interval, again, changed, codes)
    begins = [0, *(end for _, end in header.replaced)]
    ends = [*(begin for begin, _ in header.replaced), header.sos]
    head = [data[begin:end] for begin, end in zip(begins, ends, strict=True)]
    # Of two tables that are called the same the latter counts.
    longer = [struct.pack(">BBHB", 0xFF, 0xC4, 3 + len(t), number) + t for number, t in tables]
    restart = struct.pack(">BBHH", 0xFF, 0xDD, 4, interval)
    lengths = lengths_segment(np.array([len(part) for part in parts]))
    return b"".join([*head, *longer, restart, lengths, data[header.sos : header.scan], *parts])


def _differences(dc: np.ndarray, header: Header, interval: int) -> np.ndarray:
    """What is coded of the blocks' DC coefficients where they count anew at each interval."""
    components = np.resize(header.blocks, len(dc))
    found = np.empty_like(dc)
    for number in range(len(header.components)):
        own = components == number
        parts = dc[own].reshape(-1, interval * header.blocks.count(number))
        found[own] = np.diff(parts, axis=1, prepend=0).reshape(-1)
    return found


def _tables(
    header: Header, differences: np.ndarray, changed: np.ndarray
) -> tuple[list[tuple[int, bytes]], list[dict[int, str]]]:
    """The DC tables that need further codes, with their numbers; of each component its codes."""
    components = np.resize(header.blocks, len(differences))
    needed = {component.dc_number: set() for component in header.components}
    for number, component in enumerate(header.components):
        values = np.unique(np.abs(differences[changed & (components == number)]))
        needed[component.dc_number] |= {value.bit_length() for value in values.tolist()}
    tables = {c.dc_number: huffman.extended(c.dc, needed[c.dc_number]) for c in header.components}
    codes = {number: huffman.codes(table) for number, table in tables.items()}
    longer = {c.dc_number for c in header.components if tables[c.dc_number] != c.dc}
    return (
        [(number, tables[number]) for number in sorted(longer)],
        [codes[component.dc_number] for component in header.components],
    )


def _parts(
    found: Blocks,
    header: Header,
    interval: int,
    differences: np.ndarray,
    changed: np.ndarray,
    codes: list[dict[int, str]],
) -> list[bytes]:
    """The entropy-coded parts, each with the marker after it."""
    per_mcu, count = header.blocks, len(differences)
    begins_part = np.arange(count) % (interval * len(per_mcu)) == 0
    # At a marker that was there before, bits that fill its last byte lie between two blocks.
    apart = np.concatenate([[True], found.begins[1:] != found.ends[:-1]])
    cuts = np.flatnonzero(changed | begins_part | apart)
    copied_from = (found.begins + found.prefixes * changed)[cuts]
    copied_to = found.ends[np.append(cuts[1:], count) - 1]
    text, pieces, lengths, length = found.bits.tobytes(), [], [], 0
    rows = zip(
        *(each.tolist() for each in (cuts, begins_part[cuts], changed[cuts], differences[cuts])),
        *(each.tolist() for each in (copied_from, copied_to)),
        strict=True,
    )
    for block, begins, anew, difference, start, end in rows:
        if begins and length:
            pieces.append(_filling(length))
            lengths.append(length + len(pieces[-1]))
            length = 0
        if anew:
            pieces.append(_coded(difference, codes[per_mcu[block % len(per_mcu)]]))
            length += len(pieces[-1])
        pieces.append(text[start:end])
        length += end - start
    pieces.append(_filling(length))
    lengths.append(length + len(pieces[-1]))
    # Zeros and ones are bytes 0 and 1 where they are copied, and text where they are new.
    packed = np.packbits(np.frombuffer(b"".join(pieces), np.uint8) & 1).tobytes()
    bounds = [0, *(np.cumsum(lengths) // 8).tolist()]
    ends = markers(len(lengths)).tolist()
    return [
        packed[begin:end].replace(b"\xff", b"\xff\x00") + bytes((0xFF, marker))
        for (begin, end), marker in zip(itertools.pairwise(bounds), ends, strict=True)
    ]


def _filling(length: int) -> bytes:
    """The ones that fill the last byte of so many bits."""
    return b"1" * (-length % 8)


def _coded(difference: int, codes: dict[int, str]) -> bytes:
    """Zeros and ones of a DC coefficient's difference (T.81, F.1.2.1)."""
    size = abs(difference).bit_length()
    value = difference if difference >= 0 else difference + (1 << size) - 1
    return (codes[size] + (f"{value:0{size}b}" if size else "")).encode()
