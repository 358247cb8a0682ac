"""JPEGs of which parts are decoded where they are looked at."""

import dataclasses

import jpegs
import numpy as np
import pytest

from distill.data.jpeg import with_restarts
from distill.data.sources import CorruptImage
from distill.data.sources.decoding import Decoding, decode
from distill.data.sources.marked_jpegs import MarkedJpeg, partly_decoded

PIXELS = jpegs.photograph(131, 190)
MARKED = with_restarts(jpegs.pillow(PIXELS, quality=85))


class Counting:
    """A decoding that counts how often it decodes a whole file."""

    channels, decoder, exif_orientation = 3, "fast", False

    def __init__(self):
        self.calls = 0

    def __call__(self, data):
        self.calls += 1
        return decode(data, 3)


@pytest.mark.parametrize("kind", jpegs.KINDS)
def test_a_part_has_the_pixels_of_the_whole(kind):
    data = with_restarts(jpegs.KINDS[kind](PIXELS))
    whole, rng = decode(data, 3), np.random.default_rng(0)
    for _ in range(20):
        top, bottom = np.sort(rng.choice(132, 2, replace=False)).tolist()
        left, right = np.sort(rng.choice(191, 2, replace=False)).tolist()
        decoding = Counting()
        part = partly_decoded(data, decoding)[top:bottom, left:right]
        np.testing.assert_array_equal(part, whole[top:bottom, left:right])
        assert decoding.calls == ((bottom - top) * (right - left) > 0.75 * 131 * 190)


def test_it_looks_as_the_array_that_it_stands_for():
    image = partly_decoded(MARKED, Decoding())
    whole = decode(MARKED, 3)
    assert isinstance(image, MarkedJpeg)
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
def test_any_index_means_what_it_means_of_the_array(index):
    found = partly_decoded(MARKED, Decoding())[index]
    np.testing.assert_array_equal(found, decode(MARKED, 3)[index])


def test_the_whole_is_decoded_once():
    decoding = Counting()
    image = partly_decoded(MARKED, decoding)
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
    found = partly_decoded(data, decoding)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, decoding(data))


def test_an_upright_image_is_cut_where_orientation_is_asked_for():
    assert isinstance(partly_decoded(MARKED, Decoding(exif_orientation=True)), MarkedJpeg)


def test_damage_within_a_part_is_told_by_who_decodes_the_whole():
    # Without its last parts, and what says how long they are is as it was.
    damaged = MARKED[: len(MARKED) * 3 // 4]
    image = partly_decoded(damaged, Decoding())
    with pytest.raises(CorruptImage, match="truncated"):
        image[5:50, 5:50]
