import io

import numpy as np
import pytest
from PIL import Image

from distill.data import DataConfig, ViewConfig
from distill.data.examples import TrainingViews
from distill.data.fast import decode_jpeg, is_resized, mirror, resize, whole_pixels
from distill.data.loader import batches
from distill.data.sources import CorruptImage, decode
from distill.data.sources.decoding import Decoding
from distill.data.spec import ImageSpec, LabelSpec, MaskSpec
from distill.data.views import cut_view, draw_view, generator, training_view


def photograph(height, width, channels=3, seed=0):
    """Smooth noise, as photographs are smooth."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    noisy = smooth.astype(int) + rng.integers(-8, 9, smooth.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)[..., :channels]


def jpeg(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("shape", [(1, 1), (17, 31), (64, 48), (101, 7)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subsampling": 0},
        {"subsampling": 1, "quality": 30},
        {"progressive": True, "quality": 95},
        {"optimize": True, "restart_marker_rows": 1},
        {"keep_rgb": True},
    ],
)
def test_jpeg_files_have_pillows_pixels(shape, options):
    data = jpeg(photograph(*shape), **options)
    np.testing.assert_array_equal(decode_jpeg(data), decode(data, 3))
    np.testing.assert_array_equal(Decoding(3)(data), decode(data, 3))


# Of types that the standard does not allow, as Pillow reads them nevertheless: in Exif's IFD, and
# in XMP.
XMP = b'<rdf:Description tiff:Orientation="6"/>'
ODD = {
    "signed": b"II*\0\x08\0\0\0\x01\0\x12\x01\x08\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
    "two values": b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x02\0\0\0\x06\0\x06\0\0\0\0\0",
    "long": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x04\0\0\0\x01\0\0\0\x06\0\0\0\0",
}


@pytest.mark.parametrize("kind", [*ODD, "xmp"])
def test_an_image_is_turned_alike_whole_and_in_parts(kind):
    told = {"exif": b"Exif\0\0" + ODD[kind]} if kind in ODD else {"xmp": XMP}
    data = jpeg(photograph(80, 130), **told)
    expected = decode(data, 3, exif_orientation=True)
    assert expected.shape == (130, 80, 3)
    image = Decoding(3, exif_orientation=True)(data)
    assert image.shape == expected.shape
    np.testing.assert_array_equal(image[5:90, 7:60], expected[5:90, 7:60])
    np.testing.assert_array_equal(np.asarray(image), expected)


def test_grey_jpeg_files_have_pillows_pixels():
    data = jpeg(photograph(40, 50, 1))
    for channels in (1, 3):
        np.testing.assert_array_equal(Decoding(channels)(data), decode(data, channels))
    colour = jpeg(photograph(40, 50))
    np.testing.assert_array_equal(Decoding(1)(colour), decode(colour, 1))


def test_what_pillow_is_to_decode_is_left_to_it():
    file = io.BytesIO()
    Image.fromarray(photograph(9, 8)).convert("CMYK").save(file, "JPEG")
    assert decode_jpeg(file.getvalue()) is None
    np.testing.assert_array_equal(Decoding(3)(file.getvalue()), decode(file.getvalue(), 3))
    assert decode_jpeg(b"\x89PNG") is None and decode_jpeg(b"") is None
    data = jpeg(photograph(60, 70))
    assert decode_jpeg(data, 60 * 70 - 1) is None
    with pytest.raises(CorruptImage, match=r"config\.data\.max_pixels is 4,199"):
        Decoding(3, max_pixels=60 * 70 - 1)(data)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_truncated_jpeg_files_are_corrupt(share):
    data = jpeg(photograph(60, 70))
    with pytest.raises(CorruptImage) as by_pillow:
        decode(data[: int(share * len(data))], 3)
    with pytest.raises(CorruptImage) as found:
        Decoding(3).whole(data[: int(share * len(data))])
    assert str(found.value) == str(by_pillow.value)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_files_are_turned_as_their_exif_orientation_says(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(photograph(20, 30), exif=exif)
    expected = decode(data, 3, exif_orientation=True)
    np.testing.assert_array_equal(Decoding(3, exif_orientation=True)(data), expected)
    np.testing.assert_array_equal(Decoding(3)(data), decode(data, 3))


def filtered(part, size):
    """What `resize` documents, in float64: three taps for each axis, then bilinear."""
    result = part.astype(float)
    for axis, side in enumerate(size):
        length = part.shape[axis]
        shrinks = length / side
        tap = (shrinks**2 - 1) / 12 if shrinks > 1.02 else 0.0
        matrix = np.zeros((length, length))
        for place, weight in ((-1, tap), (0, 1 - 2 * tap), (1, tap)):
            np.add.at(
                matrix,
                (np.arange(length), np.clip(np.arange(length) + place, 0, length - 1)),
                weight,
            )
        centers = np.clip((np.arange(side) + 0.5) * shrinks - 0.5, 0, length - 1)
        left = np.minimum(np.floor(centers).astype(int), length - 2)
        between = np.zeros((side, length))
        between[np.arange(side), left] = 1 - (centers - left)
        between[np.arange(side), left + 1] += centers - left
        result = np.moveaxis(np.tensordot(between @ matrix, result, (1, axis)), 0, axis)
    return result


@pytest.mark.parametrize("size", [(64, 64), (50, 60), (100, 40), (200, 170), (46, 90)])
@pytest.mark.parametrize("channels", [1, 3])
def test_resize_is_three_taps_and_bilinear(size, channels):
    part = photograph(100, 88, channels)
    found = resize(part, size)
    assert found.shape == (*size, channels) and found.dtype == np.uint8
    # OpenCV rounds between the two, and interpolates in steps of 1/2048.
    np.testing.assert_allclose(found, filtered(part, size), atol=2)
    assert np.abs(found - filtered(part, size)).mean() < 0.5


@pytest.mark.parametrize("size", [(20, 30), (20, 80)])
def test_what_shrinks_by_much_is_averaged(size):
    part = photograph(100, 88)
    found = resize(part, size).astype(int)
    by_pillow = np.asarray(
        Image.fromarray(part).resize(size[::-1], Image.Resampling.BILINEAR)
    ).astype(int)
    assert np.abs(found - by_pillow).mean() < 4
    checked = np.indices((100, 88)).sum(0)[..., None] % 2 * np.full(3, 255)
    grey = resize(checked.astype(np.uint8), size).astype(int)
    # Without a filter a chessboard would stay black and white.
    assert np.abs(grey - 127).max() < 45


def test_views_of_photographs_differ_little_from_pillows():
    image, config = photograph(375, 500), ViewConfig()
    for index in range(20):
        view = draw_view(375, 500, config, generator(0, 0, index), "fast")
        found = cut_view(image, view, 224, "bilinear", "fast").astype(int)
        assert np.abs(found - cut_view(image, view, 224, "bilinear", "pillow")).mean() < 1


def test_resizing_writes_where_it_is_told_and_looks_at_nothing_outside():
    image = photograph(90, 120)
    part = image[10:80, 20:100]
    rows = np.zeros((3, 32, 32, 3), np.uint8)
    written = resize(part, (32, 32), rows[1])
    assert written.base is rows and not rows[[0, 2]].any()
    np.testing.assert_array_equal(rows[1], resize(part.copy(), (32, 32)))
    np.testing.assert_array_equal(mirror(rows[1]), rows[1][:, ::-1])
    assert mirror(rows[1], rows[2]).base is rows
    np.testing.assert_array_equal(rows[2], rows[1][:, ::-1])
    grey = resize(photograph(90, 120, 1), (32, 32))
    np.testing.assert_array_equal(mirror(grey), grey[:, ::-1])


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.0, 0.0, 100.0, 80.0), (0, 0, 100, 80)),
        ((0.4, 0.6, 50.3, 40.8), (0, 1, 50, 41)),
        ((99.6, 79.7, 99.9, 79.9), (99, 79, 100, 80)),
        ((49.7, 0.0, 100.0, 79.6), (50, 0, 100, 80)),
    ],
)
def test_boxes_in_whole_pixels_stay_inside(box, expected):
    assert whole_pixels(box, 80, 100) == expected


def test_small_images_have_pillows_views():
    assert not is_resized(63, 500) and is_resized(64, 64)
    image = photograph(63, 80)
    for index in range(5):
        rng = generator(0, 0, index), generator(0, 0, index)
        by_pillow = training_view(image, 16, ViewConfig(), rng[0], "pillow")
        np.testing.assert_array_equal(
            training_view(image, 16, ViewConfig(), rng[1], "fast"), by_pillow
        )


def test_other_filters_are_pillows_on_whole_pixels():
    image = photograph(80, 90)
    config = ViewConfig(filter="bicubic")
    view = draw_view(80, 90, config, generator(0, 0, 1), "fast")
    assert all(side == int(side) for side in view.box)
    found = training_view(image, 16, config, generator(0, 0, 1), "fast")
    by_pillow = np.asarray(
        Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC, view.box)
    )
    np.testing.assert_array_equal(found, by_pillow[:, ::-1] if view.flip else by_pillow)


class Scenes:
    """Photographs with a mask that says where they are bright."""

    class_names = ("one",)

    def __init__(self):
        self.spec = {
            "image": ImageSpec(3),
            "label": LabelSpec(),
            "bright": MaskSpec(("dark", "bright")),
        }

    def __len__(self):
        return 24

    def read(self, index):
        bright = np.kron(np.random.default_rng(index).integers(0, 2, (5, 6)), np.ones((16, 16)))
        image = np.repeat((255 * bright).astype(np.uint8)[..., None], 3, axis=2)
        return {"image": image, "label": np.int32(0), "bright": bright.astype(np.uint8)}

    def describe(self, index):
        return f"scene {index}"


def views(**options):
    return TrainingViews(Scenes(), ViewConfig(), 32, 0, 8, range(8), **options)


def test_a_mask_is_cut_as_its_image():
    for index in range(20):
        example = views(decoder="fast")[index]
        bright, image = example["bright"], example["image"][..., 0]
        sure = (image < 20) | (image > 235)
        assert sure.mean() > 0.5
        assert (bright[sure] == (image[sure] > 127)).mean() > 0.98


@pytest.mark.parametrize("teacher_view", ["same", "independent"])
def test_batches_hold_what_their_examples_do(teacher_view):
    fast = views(decoder="fast", teacher_view=teacher_view)
    alone = [fast[index] for index in range(16)]
    found = batches(fast, DataConfig())
    try:
        joined = [next(found) for _ in range(2)]
    finally:
        found.close()
    for name in alone[0]:
        there = np.concatenate([batch[name] for batch in joined])
        np.testing.assert_array_equal(there, np.stack([one[name] for one in alone]))
        assert there.dtype == np.asarray(alone[0][name]).dtype
