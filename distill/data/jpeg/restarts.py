"""The same JPEG with restart markers, so that its parts can be decoded alone."""

import itertools
import math
import struct

import numpy as np

from distill.data.jpeg import huffman
from distill.data.jpeg.header import Header, lengths_segment, parse
from distill.data.jpeg.scan import Blocks, blocks, markers

# Of a part: pixels at least, and the share of the image's width.
_WIDTH, _SHARE = 32, 1 / 32


def restart_interval(header: Header) -> int:
    """The MCUs between restart markers that are best for crops.

    Their width is as near as can be to 32 pixels, or to a 32nd of a wide image. They divide those
    in a row, so that each row begins with a marker. Fewer make the file longer, by 3 bytes a
    marker; of more, more are decoded for nothing at the edges of a crop.
    """
    columns, width = header.mcus[1], header.mcu[1]
    wanted = max(_WIDTH, _SHARE * header.width)
    divisors = [n for n in range(1, columns + 1) if columns % n == 0]
    return min(divisors, key=lambda n: abs(math.log(n * width / wanted)))


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
    of_mcu, count = header.blocks, len(differences)
    begins_part = np.arange(count) % (interval * len(of_mcu)) == 0
    # At a marker that was there before, bits that fill its last byte lie between two blocks.
    apart = np.concatenate([[True], found.begins[1:] != found.ends[:-1]])
    cuts = np.flatnonzero(changed | begins_part | apart)
    copied_from = (found.begins + found.prefixes * changed)[cuts]
    copied_to = found.ends[np.append(cuts[1:], count) - 1]
    columns = (begins_part[cuts], changed[cuts], differences[cuts], copied_from, copied_to)
    rows = zip(cuts.tolist(), *(column.tolist() for column in columns), strict=True)
    text, parts = found.bits.tobytes(), []
    for block, begins, anew, difference, start, end in rows:
        if begins:
            parts.append([])
        if anew:
            parts[-1].append(_coded(difference, codes[of_mcu[block % len(of_mcu)]]))
        parts[-1].append(text[start:end])
    return _packed([b"".join(pieces) for pieces in parts])


def _packed(parts: list[bytes]) -> list[bytes]:
    """Parts in bytes and with their markers, of parts in zeros and ones."""
    # Ones fill the last byte.
    whole = [part + b"1" * (-len(part) % 8) for part in parts]
    # Zeros and ones are bytes 0 and 1 where they are copied, and text where they are new.
    packed = np.packbits(np.frombuffer(b"".join(whole), np.uint8) & 1).tobytes()
    bounds = np.cumsum([0, *(len(part) // 8 for part in whole)]).tolist()
    return [
        packed[begin:end].replace(b"\xff", b"\xff\x00") + bytes((0xFF, marker))
        for (begin, end), marker in zip(
            itertools.pairwise(bounds), markers(len(parts)).tolist(), strict=True
        )
    ]


def _coded(difference: int, codes: dict[int, str]) -> bytes:
    """Zeros and ones of a DC coefficient's difference (T.81, F.1.2.1)."""
    size = abs(difference).bit_length()
    value = difference if difference >= 0 else difference + (1 << size) - 1
    return (codes[size] + (f"{value:0{size}b}" if size else "")).encode()
