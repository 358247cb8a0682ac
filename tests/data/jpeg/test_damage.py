"""Damaged JPEGs are refused, or decoded as by anybody else."""

import numpy as np
import pytest
import simplejpeg
from jpegs import KINDS, photograph

from distill.data.jpeg import UnsupportedJpeg, decode_crop, parse, segments, with_restarts

SOUND = [
    version
    for kind in ("4:2:0", "optimised", "grey", "markers anywhere")
    for data in [KINDS[kind](photograph(40, 56))]
    for version in (data, with_restarts(data))
]


def flipped(data, rng):
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)


def header_changed(data, rng):
    data[rng.integers(min(len(data), 650))] = rng.integers(256)


def truncated(data, rng):
    del data[rng.integers(len(data)) :]


def shortened(data, rng):
    at = rng.integers(len(data))
    del data[at : at + rng.integers(1, 50)]


def lengthened(data, rng):
    at = rng.integers(len(data))
    data[at:at] = rng.bytes(rng.integers(1, 20))


def marker_inside(data, rng):
    at = rng.integers(2, len(data) - 2)
    data[at : at + 2] = bytes((0xFF, rng.integers(0xC0, 0xFF)))


def decoded(data):
    try:
        return simplejpeg.decode_jpeg(data, strict=False)
    except ValueError:
        return None


@pytest.mark.parametrize(
    "damage", [flipped, header_changed, truncated, shortened, lengthened, marker_inside]
)
def test_damage_is_refused_or_changes_nothing(damage):
    rng = np.random.default_rng(0)
    for number in range(40):
        data = bytearray(SOUND[number % len(SOUND)])
        damage(data, rng)
        data = bytes(data)
        try:
            marked = with_restarts(data)
        except UnsupportedJpeg:
            continue
        np.testing.assert_array_equal(decoded(marked), decoded(data))


@pytest.mark.parametrize("damage", [flipped, header_changed, shortened, marker_inside])
def test_crops_of_damaged_files_are_refused_or_those_of_the_whole_image(damage):
    rng = np.random.default_rng(1)
    for number in range(60):
        data = bytearray(SOUND[1 + 2 * number % len(SOUND)])
        damage(data, rng)
        data = bytes(data)
        try:
            header = parse(data)
            box = (0, 0, min(header.width, 50), min(header.height, 30))
            found = decode_crop(data, header, segments(data, header), box)
        except UnsupportedJpeg:
            continue
        whole = decoded(data)
        if whole is not None:
            np.testing.assert_array_equal(found, whole[: box[3], : box[2]])


def test_a_size_that_the_file_cannot_have_is_refused():
    header = parse(SOUND[1])
    data = bytearray(SOUND[1])
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\xff" * 4
    assert len(SOUND[1]) > header.scan
    with pytest.raises(UnsupportedJpeg, match="its scan is not"):
        segments(bytes(data), parse(bytes(data)))


@pytest.mark.parametrize("end", ["scan", "file"])
def test_a_scan_that_does_not_end_is_refused(end):
    for data in SOUND:
        header = parse(data)
        short = data[: header.scan] if end == "scan" else data[:-2]
        with pytest.raises(UnsupportedJpeg, match="and an end"):
            segments(short, header)


@pytest.mark.parametrize("number", [0x00, 0x10], ids=["dc", "ac"])
def test_a_table_without_codes_is_refused(number):
    data, at = SOUND[0], parse(SOUND[0]).sos
    table = b"\xff\xc4\x00\x13" + bytes([number, *[0] * 16])
    with pytest.raises(UnsupportedJpeg, match="its scan is damaged"):
        with_restarts(data[:at] + table + data[at:])


def test_extraneous_bits_are_refused():
    data = SOUND[0]
    with pytest.raises(UnsupportedJpeg, match="its scan is damaged"):
        with_restarts(data[:-2] + bytes(2) + data[-2:])
