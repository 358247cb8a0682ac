"""A crop decoded alone is, to the bit, cut from the whole image."""

import io

import numpy as np
import pytest
import simplejpeg
from jpegs import KINDS, photograph
from PIL import Image

from distill.data.jpeg import UnsupportedJpeg, crop, decode_crop, parse, segments, with_restarts


def boxes(height, width, seed=0, count=20):
    """Of all sizes: anywhere, at each edge, of one pixel, of all."""
    rng = np.random.default_rng(seed)
    found = [(0, 0, width, height), (0, 0, 1, 1), (width - 1, height - 1, width, height)]
    for number in range(count):
        left, right = sorted(rng.choice(width + 1, 2, replace=False).tolist())
        top, bottom = sorted(rng.choice(height + 1, 2, replace=False).tolist())
        found.append(
            [
                (left, top, right, bottom),
                (0, top, right, bottom),
                (left, 0, right, bottom),
                (left, top, width, bottom),
                (left, top, right, height),
                (left, top, left + 1, top + 1),
            ][number % 6]
        )
    return found


def marked(data, interval=None):
    data = with_restarts(data, interval)
    header = parse(data)
    return data, header, segments(data, header)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (131, 97), (64, 160)])
def test_crops_are_those_of_the_whole_image(kind, size):
    data = KINDS[kind](photograph(*size, roughness=0.8))
    whole = simplejpeg.decode_jpeg(data)
    parts = marked(data)
    for left, top, right, bottom in boxes(*size):
        found = decode_crop(*parts, (left, top, right, bottom))
        np.testing.assert_array_equal(found, whole[top:bottom, left:right])


@pytest.mark.parametrize("interval", [1, 2, 5, 10])
def test_crops_of_any_parts_are_those_of_the_whole_image(interval):
    data = KINDS["4:2:0"](photograph(100, 160, roughness=0.5))
    whole = simplejpeg.decode_jpeg(data)
    parts = marked(data, interval)
    for left, top, right, bottom in boxes(100, 160, seed=interval):
        found = decode_crop(*parts, (left, top, right, bottom))
        np.testing.assert_array_equal(found, whole[top:bottom, left:right])


@pytest.mark.parametrize("kind", ["4:2:0", "4:2:2", "4:4:0", "4:1:1"])
@pytest.mark.parametrize("beyond", range(1, 9))
def test_crops_that_end_with_a_narrow_part_are_those_of_the_whole_image(kind, beyond):
    size = 32 + beyond, 64 + beyond
    data = KINDS[kind](photograph(*size, roughness=0.2))
    whole = simplejpeg.decode_jpeg(data)
    parts = marked(data, 1)
    for left in range(64 - 4, size[1]):
        for top in range(32 - 4, size[0]):
            found = decode_crop(*parts, (left, top, size[1], size[0]))
            np.testing.assert_array_equal(found, whole[top:, left:])


@pytest.mark.parametrize("kind", ["4:2:0", "grey"])
def test_grey_crops_are_those_of_the_whole_image_in_grey(kind):
    data = KINDS[kind](photograph(90, 120))
    found = decode_crop(*marked(data), (33, 20, 90, 61), channels=1)
    whole = simplejpeg.decode_jpeg(data, "GRAY")
    assert found.shape == (41, 57, 1)
    np.testing.assert_array_equal(found, whole[20:61, 33:90])


def test_a_crop_is_a_small_jpeg_that_others_read():
    data = KINDS["metadata"](photograph(200, 300))
    small, (left, top) = crop(*marked(data), (100, 50, 150, 120))
    assert len(small) < len(data) / 3
    pixels = np.asarray(Image.open(io.BytesIO(small)))
    whole = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(pixels[top : top + 70, left : left + 50], whole[50:120, 100:150])


def test_no_more_is_decoded_than_the_parts_that_cover_the_box():
    parts = marked(KINDS["4:2:0"](photograph(160, 320)), 2)
    small, offset = crop(*parts, (66, 34, 94, 46))
    assert simplejpeg.decode_jpeg_header(small)[:2] == (16, 32)
    assert offset == (2, 2)


@pytest.mark.parametrize("interval", [{}, {"restart_marker_blocks": 3}])
def test_a_file_without_its_markers_is_refused(interval):
    data = io.BytesIO()
    Image.fromarray(photograph(40, 70)).save(data, "JPEG", subsampling=2, **interval)
    header = parse(data.getvalue())
    with pytest.raises(UnsupportedJpeg, match="do not begin with restart markers"):
        crop(data.getvalue(), header, segments(data.getvalue(), header), (0, 0, 9, 9))


@pytest.mark.parametrize("box", [(0, 0, 71, 1), (-1, 0, 5, 5), (5, 5, 5, 9), (0, 3, 9, 2)])
def test_a_box_that_is_not_in_the_image_is_refused(box):
    with pytest.raises(ValueError, match="not in an image of 70 × 40"):
        crop(*marked(KINDS["4:2:0"](photograph(40, 70))), box)
