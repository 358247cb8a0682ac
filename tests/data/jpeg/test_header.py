"""A header is read as other programs read it, and what cannot be cut is refused."""

import io

import pytest
from jpegs import KINDS, photograph, pillow
from PIL import Image

from distill.data.jpeg import UnsupportedJpeg, parse

PIXELS = photograph(40, 70)
COLOUR = pillow(PIXELS, quality=85, subsampling=2)


def patched(marker, at, value):
    """The JPEG with one byte of a marker's segment exchanged, counted from the marker."""
    data = bytearray(COLOUR)
    data[COLOUR.index(bytes((0xFF, marker))) + at] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("kind", "mcu", "mcus"),
    [
        ("4:2:0", (16, 16), (3, 5)),
        ("4:2:2", (8, 16), (5, 5)),
        ("4:4:4", (8, 8), (5, 9)),
        ("4:4:0", (16, 8), (3, 9)),
        ("4:1:1", (8, 32), (5, 3)),
        ("grey", (8, 8), (5, 9)),
    ],
)
def test_size_and_mcus_are_read(kind, mcu, mcus):
    header = parse(KINDS[kind](PIXELS))
    assert (header.height, header.width, header.mcu, header.mcus) == (40, 70, mcu, mcus)


def test_the_head_holds_no_metadata():
    header = parse(KINDS["metadata"](PIXELS))
    assert header.scan > 70_000
    assert len(header.head) < 1000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pillow(PIXELS, progressive=True), "progressive"),
        (patched(0xC0, 1, 0xC9), "arithmetic coded"),
        (patched(0xC0, 1, 0xC3), "lossless"),
        (patched(0xC0, 4, 12), "12 bits a sample"),
        (patched(0xC0, 6, 0), "0 × 70 pixels"),
        (patched(0xC0, 11, 0x31), "sampled in an unusual way"),
        (patched(0xDA, 4, 1), "several scans"),
        (patched(0xDA, 6, 0x33), "Huffman table is missing"),
        (patched(0xC4, 1, 0xDC), "marker 0xdc stands"),
        (patched(0xC4, 0, 0), "is no marker"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "does not begin as a JPEG"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_reason(data, reason):
    with pytest.raises(UnsupportedJpeg, match=reason):
        parse(data)


def test_four_components_are_refused():
    data = io.BytesIO()
    Image.new("CMYK", (40, 70)).save(data, "JPEG")
    with pytest.raises(UnsupportedJpeg, match="4 components"):
        parse(data.getvalue())


def test_a_header_cut_anywhere_is_refused():
    for length in range(parse(COLOUR).scan):
        with pytest.raises(UnsupportedJpeg):
            parse(COLOUR[:length])
