"""Restart markers change a file, never its pixels."""

import io

import numpy as np
import pytest
import simplejpeg
from jpegs import KINDS, photograph, pillow, turbo
from PIL import Image

from distill.data.jpeg import (
    UnsupportedJpeg,
    huffman,
    parse,
    restart_interval,
    segments,
    with_restarts,
)
from distill.data.jpeg.header import lengths_segment

STANDARD = parse(pillow(photograph(16, 16))).components[0]


def opened(data):
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("size", [(1, 1), (33, 97), (120, 64)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_decoder_sees_the_same_pixels(kind, size):
    data = KINDS[kind](photograph(*size, roughness=0.9))
    marked = with_restarts(data)
    np.testing.assert_array_equal(opened(marked), opened(data))
    np.testing.assert_array_equal(simplejpeg.decode_jpeg(marked), simplejpeg.decode_jpeg(data))


@pytest.mark.parametrize("interval", [1, 2, 3, 4, 6, 12])
def test_markers_stand_where_they_are_asked_for(interval):
    marked = with_restarts(KINDS["markers anywhere"](photograph(60, 190)), interval)
    header = parse(marked)
    assert (header.mcus, header.interval) == ((4, 12), interval)
    assert len(segments(marked, header)) == 4 * 12 // interval + 1
    # More than eight: their numbers start again.
    assert marked.count(b"\xff\xd0") == -(-(48 // interval - 1) // 8)


@pytest.mark.parametrize("interval", [0, -2, 5, 24])
def test_an_interval_that_does_not_divide_a_row_is_refused(interval):
    with pytest.raises(ValueError, match="must divide the 12 MCUs"):
        with_restarts(KINDS["4:2:0"](photograph(60, 190)), interval)


@pytest.mark.parametrize(
    ("kind", "width", "interval"),
    [
        ("4:2:0", 500, 2),
        ("4:2:0", 496, 1),
        ("4:4:4", 256, 4),
        ("4:4:4", 500, 3),
        ("4:1:1", 99, 1),
        ("4:2:0", 3200, 5),
    ],
)
def test_parts_are_32_pixels_wide_or_a_32nd_of_the_image(kind, width, interval):
    assert restart_interval(parse(KINDS[kind](photograph(16, width)))) == interval


def test_a_file_with_its_markers_stays_as_it_is():
    for kind in KINDS:
        marked = with_restarts(KINDS[kind](photograph(50, 100)))
        assert with_restarts(marked) == marked


def test_what_fills_the_bytes_before_markers_is_left_out():
    # Blocks of mean 0: nothing that is coded after a marker is coded otherwise without it.
    stripes = np.broadcast_to(np.resize([90, 166], 160).astype(np.uint8), (40, 160))
    data = pillow(stripes, quality=85, restart_marker_blocks=3)
    marked = with_restarts(data, 20)
    assert marked.count(b"\xff\xd0") == 1
    np.testing.assert_array_equal(opened(marked), opened(data))


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_recorded_where_they_stand(kind):
    marked = with_restarts(KINDS[kind](photograph(90, 200)))
    header = parse(marked)
    assert header.lengths
    sought = segments(marked, header._replace(lengths=b""))
    np.testing.assert_array_equal(segments(marked, header), sought)
    assert sought[-1] == len(marked)


@pytest.mark.parametrize("change", ["of another image", "cut", "not there"])
def test_parts_that_are_not_where_it_says_are_looked_for(change):
    marked, other = (with_restarts(KINDS["4:2:0"](photograph(90, 200, seed))) for seed in (0, 1))
    header = parse(marked)
    recorded = {
        "of another image": parse(other).lengths,
        "cut": header.lengths[:-1],
        "not there": b"",
    }
    found = segments(marked, header._replace(lengths=recorded[change]))
    np.testing.assert_array_equal(found, segments(marked, header))


@pytest.mark.parametrize("lengths", [[5, 65536], [5] * 32_763], ids=["too long", "too many"])
def test_parts_that_a_segment_cannot_record_are_not(lengths):
    assert lengths_segment(np.array(lengths)) == b""
    assert len(lengths_segment(np.array(lengths)[:1])) == 4 + len("restarts ") + 2
    assert len(lengths_segment(np.full(32_762, 65535))) == 2 + 65535


def test_metadata_is_kept():
    data = KINDS["metadata"](photograph(20, 20))
    before, after = opened(data), opened(with_restarts(data))
    assert after.info["icc_profile"] == before.info["icc_profile"]
    assert after.info["comment"] == before.info["comment"]
    assert after.getexif()[0x0112] == 6


def test_of_several_images_the_first_is_kept():
    first, second = (Image.fromarray(photograph(30, 40, seed)) for seed in range(2))
    data = io.BytesIO()
    first.save(data, "MPO", save_all=True, append_images=[second])
    marked = opened(with_restarts(data.getvalue()))
    assert marked.format == "JPEG"
    np.testing.assert_array_equal(marked, opened(data.getvalue()))


def test_tables_get_the_codes_that_only_markers_ask_for():
    # Neighbours differ little, and yet the last blocks are far from the first.
    ramp = np.broadcast_to(np.linspace(128, 255, 640).astype(np.uint8)[:, None], (8, 640, 3))
    data = pillow(ramp, optimize=True, quality=90)
    marked = with_restarts(data)
    before, after = (parse(each).components[0].dc for each in (data, marked))
    assert set(before[16:]) < set(after[16:])
    np.testing.assert_array_equal(opened(marked), opened(data))


def test_further_codes_leave_others_as_they_are():
    few = bytes([0, 2, 1, *[0] * 13, 5, 0, 3])
    more = huffman.codes(huffman.extended(few, set(range(12))))
    assert huffman.codes(few).items() < more.items()
    assert sorted(more) == list(range(12))
    words = list(more.values())
    assert not any(a != b and b.startswith(a) for a in words for b in words)
    assert not any(set(word) == {"1"} for word in words)


def test_a_table_that_is_full_gets_no_further_codes():
    with pytest.raises(UnsupportedJpeg, match="no room"):
        huffman.extended(bytes([2, *[0] * 15, 0, 1]), {2})


@pytest.mark.parametrize("table", [STANDARD.dc, STANDARD.ac], ids=["dc", "ac"])
def test_codes_are_found_by_the_bits_they_begin(table):
    lengths, symbols = huffman.lookup(table)
    found = np.zeros((2, 1 << 16), int)
    for symbol, code in huffman.codes(table).items():
        first = int(code.ljust(16, "0"), 2)
        found[:, first : first + (1 << 16 - len(code))] = [[len(code)], [symbol]]
    np.testing.assert_array_equal([lengths, symbols], found)


def test_a_table_of_more_codes_than_there_are_is_refused():
    with pytest.raises(UnsupportedJpeg, match="Huffman table is damaged"):
        huffman.lookup(bytes([3, *[0] * 15, 0, 1, 2]))


def test_blocks_without_an_end_code_are_found():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = turbo(noise, 100, "444")
    marked = with_restarts(data)
    np.testing.assert_array_equal(opened(marked), opened(data))
