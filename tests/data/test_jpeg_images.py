"""JPEGs of which no more is decoded than is looked at."""

import dataclasses

import jpegs
import numpy as np
import pytest

from distill.data.jpeg import with_restarts
from distill.data.sources import CorruptImage
from distill.data.sources.decoding import Decoding, decode
from distill.data.sources.jpeg_images import JpegImage, jpeg_image

PIXELS = jpegs.photograph(131, 190)
UNTOUCHED = jpegs.pillow(PIXELS, quality=85)
MARKED = with_restarts(UNTOUCHED)


class Counting:
    """Counts how often whole files are decoded."""

    def __init__(self):
        self.calls = 0

    def __call__(self, data):
        self.calls += 1
        return decode(data, 3)


def opened(data, decode=None):
    return jpeg_image(data, decode or Decoding().whole, most_pixels=10**6)


@pytest.mark.parametrize("kind", jpegs.KINDS)
def test_a_part_has_the_pixels_of_the_whole(kind):
    data = with_restarts(jpegs.KINDS[kind](PIXELS))
    whole, rng = decode(data, 3), np.random.default_rng(0)
    for _ in range(20):
        top, bottom = np.sort(rng.choice(132, 2, replace=False)).tolist()
        left, right = np.sort(rng.choice(191, 2, replace=False)).tolist()
        decoding = Counting()
        part = opened(data, decoding)[top:bottom, left:right]
        np.testing.assert_array_equal(part, whole[top:bottom, left:right])
        assert decoding.calls == ((bottom - top) * (right - left) > 0.75 * 131 * 190)


def test_it_looks_as_the_array_that_it_stands_for():
    image = Decoding()(MARKED)
    whole = decode(MARKED, 3)
    assert isinstance(image, JpegImage)
    assert (image.shape, image.dtype) == (whole.shape, whole.dtype)
    np.testing.assert_array_equal(np.asarray(image), whole)
    assert np.asarray(image, np.float32).dtype == np.float32


@pytest.mark.parametrize(
    "index",
    [
        np.s_[:, :],
        np.s_[5:-5, -60:-10],
        np.s_[10:500, 20:30],
        np.s_[::2, 3:40],
        np.s_[9:9, 3:40],
        np.s_[50:40, 3:40],
        np.s_[3:40],
        np.s_[..., 0],
        np.s_[7],
        np.s_[1:20, 2:30, 1],
        np.s_[np.array([3, 1]), 4],
    ],
)
@pytest.mark.parametrize("data", [MARKED, UNTOUCHED], ids=["marked", "untouched"])
def test_any_index_means_what_it_means_of_the_array(data, index):
    np.testing.assert_array_equal(opened(data)[index], decode(data, 3)[index])


def test_the_whole_is_decoded_once():
    decoding = Counting()
    image = opened(MARKED, decoding)
    for _ in range(2):
        np.asarray(image)
        image[2:20, 2:20]
    assert decoding.calls == 1


@pytest.mark.parametrize(
    ("data", "choice"),
    [
        (MARKED, {"decoder": "pillow"}),
        (MARKED, {"channels": 1}),
        (with_restarts(jpegs.pillow(PIXELS, **jpegs.rotated(6))), {"exif_orientation": True}),
        (jpegs.pillow(PIXELS, restart_marker_rows=1), {}),
        (jpegs.pillow(PIXELS, progressive=True), {}),
    ],
    ids=["Pillow", "grey", "turned", "markers of others", "progressive"],
)
def test_what_is_not_to_be_cut_is_decoded_whole(data, choice):
    decoding = dataclasses.replace(Decoding(), **choice)
    found = decoding(data)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, decoding.whole(data))


def test_an_upright_image_is_cut_where_orientation_is_asked_for():
    assert isinstance(Decoding(exif_orientation=True)(MARKED), JpegImage)


def test_damage_within_a_part_is_told_by_who_decodes_the_whole():
    # Without its last parts, and what says how long they are is as it was.
    damaged = MARKED[: len(MARKED) * 3 // 4]
    image = opened(damaged)
    with pytest.raises(CorruptImage, match="truncated"):
        image[5:50, 5:50]


@pytest.mark.parametrize("kind", jpegs.KINDS)
@pytest.mark.parametrize("size", [(131, 190), (47, 20), (200, 3)])
def test_of_an_untouched_file_rows_are_decoded_down_to_the_last_looked_at(kind, size):
    data = jpegs.KINDS[kind](jpegs.photograph(*size, roughness=0.8))
    whole, decoding = decode(data, 3), Counting()
    if "markers" in kind:
        assert opened(data) is None
        return
    for bottom in range(1, size[0] + 1):
        part = opened(data, decoding)[bottom // 2 : bottom, 1:]
        np.testing.assert_array_equal(part, whole[bottom // 2 : bottom, 1:])
    # Where the last rows of blocks are looked at.
    assert decoding.calls <= 17


def test_damage_below_the_rows_looked_at_is_not_seen_and_above_it_is():
    damaged = bytearray(jpegs.pillow(PIXELS, quality=85))
    damaged[len(damaged) // 2 : len(damaged) // 2 + 9] = bytes(9)
    image, whole = opened(bytes(damaged)), decode(UNTOUCHED, 3)
    np.testing.assert_array_equal(image[:30, 5:], whole[:30, 5:])
    # As Pillow has it, which goes on after damage.
    np.testing.assert_array_equal(image[:110, 5:], decode(bytes(damaged), 3)[:110, 5:])


@pytest.mark.parametrize("lacking", [1, 2, 500])
def test_a_truncated_file_is_corrupt_whatever_is_looked_at(lacking):
    with pytest.raises(CorruptImage, match="truncated"):
        opened(UNTOUCHED[:-lacking])[:5, :5]


def test_what_would_take_too_much_memory_is_left_to_pillow():
    assert jpeg_image(MARKED, decode, most_pixels=131 * 190) is not None
    assert jpeg_image(MARKED, decode, most_pixels=131 * 190 - 1) is None
