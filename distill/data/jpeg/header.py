"""What stands in a JPEG before its pixels (ITU-T T.81, annex B)."""

import functools
import struct
from typing import NamedTuple

import numpy as np

from distill.data.jpeg.errors import UnsupportedJpeg

_SOI, _EOI, _SOS, _DQT, _DHT, _DRI, _DNL = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xDC
_BASELINE, _EXTENDED = 0xC0, 0xC1
_APP2, _APP9 = 0xE2, 0xE9
# JFIF's and Adobe's say which colours the components are.
_NEEDED = (0xE0, 0xEE, _DQT, _DHT, _DRI, _BASELINE, _EXTENDED, _SOS)
_OTHER_FRAMES = {
    0xC2: "progressive",
    0xC3: "lossless",
    **dict.fromkeys((0xC5, 0xC6, 0xC7), "hierarchical"),
    **dict.fromkeys((0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF), "arithmetic coded"),
}
# What begins the application's segment that lengths are recorded in.
_LENGTHS = b"restarts\0"
# What else is no longer so when the scan is written anew: the other is where more images follow.
_OF_SCAN = {_APP9: _LENGTHS, _APP2: b"MPF\0"}
# A segment's own length is of 16 bits.
_MOST_LENGTHS = (0xFFFF - 2 - len(_LENGTHS)) // 2
_SAMPLINGS = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1))


class Component(NamedTuple):
    """A colour: how many of its blocks of 8×8 an MCU holds, and the tables they are coded by."""

    identifier: int
    horizontal: int
    vertical: int
    dc_number: int
    """Of its DC table among the file's."""
    dc: bytes
    """A Huffman table as DHT has it: how many codes there are of 1 to 16 bits, and the symbols."""
    ac: bytes


class Header(NamedTuple):
    """A baseline or extended Huffman-coded JPEG of one scan, grey or of three components."""

    height: int
    width: int
    components: tuple[Component, ...]
    interval: int
    """MCUs between restart markers, 0 where there are none."""
    lengths: bytes
    """How long the scan's parts are, as `lengths_segment` recorded it; empty where it did not."""
    head: bytes
    """What a decoder needs of the header, from SOI to the scan's first byte."""
    frame: int
    """Where in `head` the height stands, and after it the width, of 16 bits each."""
    sos: int
    """Where in the file the scan's header begins."""
    scan: int
    """Where in the file the scan's first byte lies."""
    replaced: tuple[tuple[int, int], ...]
    """Where in the file, from and to, stands what is no longer so when the scan is written anew:
    the restart interval, lengths, and where more images follow (CIPA DC-007)."""

    @property
    def mcu(self) -> tuple[int, int]:
        """Height and width in pixels of an MCU, the smallest part that holds all components."""
        if len(self.components) == 1:
            return 8, 8
        return 8 * self.components[0].vertical, 8 * self.components[0].horizontal

    @property
    def mcus(self) -> tuple[int, int]:
        """How many rows and columns of MCUs there are."""
        (height, width) = self.mcu
        return -(-self.height // height), -(-self.width // width)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Of each block of an MCU, the number of its component."""
        if len(self.components) == 1:
            return (0,)
        return tuple(
            number
            for number, component in enumerate(self.components)
            for _ in range(component.horizontal * component.vertical)
        )


def parse(data: bytes) -> Header:
    """Reads the header of a whole JPEG file; of what follows nothing is looked at.

    Raises:
      UnsupportedJpeg: if its parts could not be decoded alone: it is progressive, arithmetic coded,
        of 12 bits, of four components, of several scans or of unusual sampling; or damaged.
    """
    try:
        return _parsed(data)
    except (IndexError, struct.error):
        raise UnsupportedJpeg("its header is truncated") from None


def lengths_segment(lengths: np.ndarray) -> bytes:
    """What records in a file how long its scan's parts are, so that they need not be looked for.

    It is 2 bytes a part, and nothing where the parts are too many or too long for it.
    """
    if len(lengths) > _MOST_LENGTHS or lengths.max() > 0xFFFF:
        return b""
    body = _LENGTHS + lengths.astype(">u2").tobytes()
    return struct.pack(">BBH", 0xFF, _APP9, 2 + len(body)) + body


def _parsed(data: bytes) -> Header:
    if data[:2] != bytes((0xFF, _SOI)):
        raise UnsupportedJpeg("it does not begin as a JPEG")
    needed, replaced, lengths = [data[:2]], [], b""
    at, code = 2, 0
    while code != _SOS:
        begin, code, end = _segment(data, at)
        at = end
        if code in _NEEDED:
            needed.append(data[begin:end])
        if code == _APP9 and data.startswith(_LENGTHS, begin + 4):
            lengths = data[begin + 4 + len(_LENGTHS) : end]
        elif code in _OTHER_FRAMES:
            raise UnsupportedJpeg(f"it is {_OTHER_FRAMES[code]}")
        if code == _DRI or (code in _OF_SCAN and data.startswith(_OF_SCAN[code], begin + 4)):
            replaced.append((begin, end))
    head = b"".join(needed)
    height, width, components, interval, size_at = _said(head)
    return Header(
        height,
        width,
        components,
        interval,
        lengths,
        head,
        size_at,
        begin,
        end,
        tuple(replaced),
    )


def _segment(data: bytes, at: int) -> tuple[int, int, int]:
    """Begin, code and end of the marker's segment that begins here."""
    if data[at] != 0xFF:
        raise UnsupportedJpeg(f"byte {at} of its header is no marker")
    # Any number of 0xFF may stand before a marker.
    while data[at + 1] == 0xFF:
        at += 1
    code = data[at + 1]
    # Those without a length, and what only a damaged header holds.
    if code <= 0x01 or 0xD0 <= code <= _EOI or code == _DNL:
        raise UnsupportedJpeg(f"marker {code:#04x} stands in its header")
    end = at + 2 + (data[at + 2] << 8 | data[at + 3])
    if end < at + 4 or end > len(data):
        raise UnsupportedJpeg(f"the length of marker {code:#04x} cannot be")
    return at, code, end


# Images of a data set often come from one encoder, in a few sizes.
@functools.lru_cache(256)
def _said(head: bytes) -> tuple[int, int, tuple[Component, ...], int, int]:
    """Height, width, components, restart interval and `Header.frame` of a `Header.head`."""
    frame, tables, interval, at, code = None, {}, 0, 2, 0
    while code != _SOS:
        begin, code, at = _segment(head, at)
        body = head[begin + 4 : at]
        if code in (_BASELINE, _EXTENDED):
            if frame:
                raise UnsupportedJpeg("it has several frames")
            frame, size_at = _frame(body), begin + 5
        elif code == _DHT:
            tables |= _huffman_tables(body)
        elif code == _DRI:
            (interval,) = struct.unpack(">H", body)
    if not frame:
        raise UnsupportedJpeg("its frame header is missing")
    return *frame[:2], _components(frame[2], body, tables), interval, size_at


def _frame(body: bytes) -> tuple[int, int, list[tuple[int, int, int]]]:
    """Height, width and of each component the identifier and the sampling factors."""
    precision, height, width, count = struct.unpack_from(">BHHB", body)
    if precision != 8:
        raise UnsupportedJpeg(f"it has {precision} bits a sample")
    if not height or not width:
        raise UnsupportedJpeg(f"its header says that it has {height} × {width} pixels")
    if count not in (1, 3):
        raise UnsupportedJpeg(f"it has {count} components")
    if len(body) != 6 + 3 * count:
        raise UnsupportedJpeg("its frame header is damaged")
    parts = [(body[i], body[i + 1] >> 4, body[i + 1] & 15) for i in range(6, len(body), 3)]
    sampling = [part[1:] for part in parts]
    if count == 3 and (sampling[0] not in _SAMPLINGS or sampling[1:] != [(1, 1), (1, 1)]):
        raise UnsupportedJpeg("its components are sampled in an unusual way")
    # Of a single component the factors mean nothing, but decoders check them.
    if count == 1 and not all(1 <= factor <= 4 for factor in sampling[0]):
        raise UnsupportedJpeg("its frame header is damaged")
    return height, width, parts


def _huffman_tables(body: bytes) -> dict[int, bytes]:
    """By class and number in one byte, as DHT has them, 0x00 for DC and 0x10 for AC."""
    tables, at = {}, 0
    while at < len(body):
        end = at + 17 + sum(body[at + 1 : at + 17])
        if end > len(body):
            raise UnsupportedJpeg("a Huffman table is truncated")
        tables[body[at]] = body[at + 1 : end]
        at = end
    return tables


def _components(
    parts: list[tuple[int, int, int]], scan: bytes, tables: dict[int, bytes]
) -> tuple[Component, ...]:
    """The frame's components with the tables that the scan's header gives them."""
    if scan[0] != len(parts):
        raise UnsupportedJpeg("it has several scans")
    if len(scan) != 4 + 2 * len(parts) or scan[-3:] != b"\x00\x3f\x00":
        raise UnsupportedJpeg("the header of its scan is damaged")
    found = []
    for number, (identifier, horizontal, vertical) in enumerate(parts):
        named, used = scan[1 + 2 * number], scan[2 + 2 * number]
        if named != identifier:
            raise UnsupportedJpeg("its scan has other components than its frame")
        try:
            dc, ac = tables[used >> 4], tables[0x10 | used & 15]
        except KeyError:
            raise UnsupportedJpeg("a Huffman table is missing") from None
        found.append(Component(identifier, horizontal, vertical, used >> 4, dc, ac))
    return tuple(found)
