import numpy as np
import pytest
from PIL import Image

from distill.data import ViewConfig, views
from distill.data.views import (
    evaluation_view,
    generator,
    inception_box,
    resize_box,
    training_view,
)
from distill.evaluation_view import EvaluationView


def noise(height, width, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def boxes(height, width, config, draws=2000):
    rng = np.random.default_rng(1)
    found = np.array([inception_box(height, width, config, rng) for _ in range(draws)])
    return found, found == (0.0, 0.0, width, height)


@pytest.mark.parametrize(
    "shape", [(224, 224), (100, 300), (480, 640), (40, 400), (400, 40), (8, 8), (1, 1), (2, 90)]
)
def test_box_is_inside_the_image_with_area_and_ratio_in_range(shape):
    height, width = shape
    found, is_edge = boxes(height, width, ViewConfig())
    left, top, right, bottom = found.T
    assert (left >= 0).all() and (left < right).all() and (right <= width + 1e-9).all()
    assert (top >= 0).all() and (top < bottom).all() and (bottom <= height + 1e-9).all()
    drawn = ~is_edge.all(axis=1)
    w, h = (right - left)[drawn], (bottom - top)[drawn]
    assert (w * h >= 0.05 * height * width - 1e-6).all()
    assert (w * h <= height * width + 1e-6).all()
    assert (w / h >= 3 / 4 - 1e-6).all() and (w / h <= 4 / 3 + 1e-6).all()


def test_ratio_is_of_width_to_height():
    found, _ = boxes(100, 100, ViewConfig(crop_area=(0.1, 0.2), crop_ratio=(2, 4)), draws=100)
    left, top, right, bottom = found.T
    ratio = (right - left) / (bottom - top)
    assert ratio.min() >= 2 - 1e-9 and ratio.max() <= 4 + 1e-9


@pytest.mark.parametrize("shape", [(10, 2000), (2000, 10)])
def test_very_elongated_image_is_taken_whole(shape):
    # 5% of the area is a square of side 31: no box fits.
    _, is_edge = boxes(*shape, ViewConfig(), draws=50)
    assert is_edge.all()


def test_image_no_ratio_fits_is_taken_whole():
    config = ViewConfig(crop_area=(1, 1), crop_ratio=(2, 2))
    assert inception_box(10, 10, config, np.random.default_rng(0)) == (0, 0, 10, 10)


def test_whole_area_at_the_images_ratio_is_the_whole_image():
    config = ViewConfig(crop_area=(1, 1), crop_ratio=(1, 1))
    box = inception_box(10, 10, config, np.random.default_rng(0))
    np.testing.assert_allclose(box, (0, 0, 10, 10))


def test_area_log_ratio_and_place_are_uniform():
    # Up to half of a square image, every draw fits at once, so nothing is conditioned on fitting.
    found, _ = boxes(100, 100, ViewConfig(crop_area=(0.1, 0.5)), draws=4000)
    left, top, right, bottom = found.T
    w, h = right - left, bottom - top
    uniforms = {
        "area": (w * h / 1e4 - 0.1) / 0.4,
        "ratio": (np.log(w / h) - np.log(3 / 4)) / np.log(16 / 9),
        "left": left / (100 - w),
        "top": top / (100 - h),
    }
    for name, values in uniforms.items():
        # Kolmogorov-Smirnov distance; 4000 draws stay below with probability 1 − 2e-5.
        distance = np.abs(np.sort(values) - (np.arange(4000) + 0.5) / 4000).max()
        assert distance < 2.4 / np.sqrt(4000), name
    assert np.abs(np.corrcoef(list(uniforms.values())) - np.eye(4)).max() < 0.08


def test_training_view_depends_on_nothing_but_seed_epoch_and_index():
    image = noise(40, 50)
    views = [training_view(image, 16, ViewConfig(), generator(3, 1, 7)) for _ in range(3)]
    assert (views[0] == views[1]).all() and (views[0] == views[2]).all()


@pytest.mark.parametrize(
    "key", [(0, 0, 0), (3, 1, 7), (2**32 - 1, 2, 3, 1), (2**32, 0, 5), (1, 2**64 - 1, 9)]
)
def test_its_random_numbers_are_numpys_for_the_key(key):
    expected = np.random.default_rng(key).random(9)
    np.testing.assert_array_equal(generator(*key).random(9), expected)


def test_training_view_changes_with_seed_epoch_and_index():
    image, config = noise(40, 50), ViewConfig()
    keys = [(s, e, i) for s in range(3) for e in range(3) for i in range(3)]
    views = {training_view(image, 16, config, generator(*key)).tobytes() for key in keys}
    assert len(views) == len(keys)


def test_training_view_leaves_the_image_alone():
    image = noise(20, 20)
    before = image.copy()
    training_view(image, 8, ViewConfig(), generator(0, 0, 0))
    assert (image == before).all()


def test_training_view_shows_one_box_of_the_image_undistorted():
    y, x = np.mgrid[0:200, 0:200]
    image = np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)
    shares, ratios = [], []
    for index in range(200):
        view = training_view(image, 16, ViewConfig(flip=False), generator(0, 0, index))
        view = view.astype(float)
        assert np.ptp(view[..., 0], axis=0).max() <= 1  # x does not change down a column,
        assert np.ptp(view[..., 1], axis=1).max() <= 1  # nor y along a row.
        w = (view[8, -2, 0] - view[8, 1, 0]) * 16 / 13
        h = (view[-2, 8, 1] - view[1, 8, 1]) * 16 / 13
        shares.append(w * h / 200**2)
        ratios.append(w / h)
    assert min(shares) > 0.04 and max(shares) < 1.03
    assert min(shares) < 0.1 and max(shares) > 0.8
    assert min(ratios) > 0.7 and max(ratios) < 1.45


def mirrored(flip, draws):
    """Which views of an asymmetric image are mirrored; the crop is always the whole image."""
    image = np.tile(np.array([0, 0, 255, 255], np.uint8)[None, :, None], (4, 1, 1))
    config = ViewConfig(crop_area=(1, 1), crop_ratio=(1, 1), flip=flip)
    views = [training_view(image, 4, config, generator(0, 0, i)) for i in range(draws)]
    assert all((v == image).all() or (v == image[:, ::-1]).all() for v in views)
    return np.array([(v != image).any() for v in views])


def test_without_flip_no_view_is_mirrored():
    assert not mirrored(flip=False, draws=300).any()


def test_with_flip_half_of_the_views_are_mirrored():
    share = mirrored(flip=True, draws=2000).mean()
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(2000)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(8, 8), (37, 53), (1, 1), (3, 80)])
def test_views_are_uint8_squares_with_the_images_channels(shape, channels):
    image = noise(*shape, channels)
    for index in range(10):
        view = training_view(image, 12, ViewConfig(), generator(0, 0, index))
        assert view.shape == (12, 12, channels) and view.dtype == np.uint8
    view = evaluation_view(image, 12, EvaluationView())
    assert view.shape == (12, 12, channels) and view.dtype == np.uint8


def test_evaluation_view_at_natural_scale_is_the_central_crop():
    # The smaller side is 56/0.875 already, so nothing is resized.
    image = noise(64, 96)
    view = evaluation_view(image, 56, EvaluationView(crop=0.875))
    np.testing.assert_array_equal(view, image[4:60, 20:76])


@pytest.mark.parametrize("shape", [(128, 192), (32, 32), (384, 192)])
def test_evaluation_view_equals_resizing_and_then_cutting_the_centre(shape):
    image = noise(*shape)
    scale = 64 / min(shape)
    height, width = round(shape[0] * scale), round(shape[1] * scale)
    whole = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    top, left = (height - 56) // 2, (width - 56) // 2
    expected = whole[top : top + 56, left : left + 56]
    view = evaluation_view(image, 56, EvaluationView(crop=0.875))
    np.testing.assert_allclose(view.astype(int), expected.astype(int), atol=1)


def test_evaluation_view_without_crop_is_the_whole_smaller_side():
    image = noise(40, 60)
    expected = Image.fromarray(image[:, 10:50]).resize((20, 20), Image.Resampling.BILINEAR)
    view = evaluation_view(image, 20, EvaluationView(crop=1.0))
    # Beyond the cut, the filter of the two outermost columns finds other pixels.
    np.testing.assert_array_equal(view[:, 1:-1], np.asarray(expected)[:, 1:-1])


def test_evaluation_view_squashes_what_is_not_square():
    image = noise(40, 60)
    expected = Image.fromarray(image).resize((20, 20), Image.Resampling.BICUBIC)
    view = evaluation_view(image, 20, EvaluationView(crop=1.0, resize="squash", filter="bicubic"))
    np.testing.assert_array_equal(view, expected)


def test_what_no_patch_reaches_is_left_out_at_the_right_and_the_bottom():
    image = noise(64, 96)
    whole = evaluation_view(image, 30, EvaluationView())
    seen = evaluation_view(image, 28, EvaluationView(unseen=2))
    np.testing.assert_array_equal(seen, whole[:28, :28])


def test_a_strip_of_an_image_is_not_resized_whole(monkeypatch):
    image, view = noise(40, 90), EvaluationView()
    whole = evaluation_view(image, 16, view)
    monkeypatch.setattr(views, "_MOST_PIXELS", 100)
    np.testing.assert_allclose(evaluation_view(image, 16, view).astype(int), whole, atol=1)


def test_what_a_config_leaves_open_is_taken_from_a_view():
    teacher = EvaluationView(crop=0.9, resize="squash", filter="bicubic")
    assert ViewConfig().evaluation == EvaluationView()
    assert ViewConfig().completed(teacher).evaluation == teacher
    said = ViewConfig(eval_crop=1.0, filter="box").completed(teacher)
    assert said.evaluation == EvaluationView(crop=1.0, resize="squash", filter="box")


def test_training_views_are_resized_by_the_filter():
    image = noise(40, 50)
    found = {
        by: training_view(image, 16, ViewConfig(filter=by), generator(0, 0, 0))
        for by in (None, "bilinear", "bicubic")
    }
    np.testing.assert_array_equal(found[None], found["bilinear"])
    assert (found["bicubic"] != found["bilinear"]).any()


def triangle_weights(count, low, high, size):
    scale = (high - low) / size
    centers = low + (np.arange(size) + 0.5) * scale
    distance = np.abs(np.arange(count) + 0.5 - centers[:, None]) / max(scale, 1.0)
    weights = np.maximum(0, 1 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


BOXES = [(5, 7, 25, 31), (0, 0, 50, 40), (10.3, 2.25, 17.8, 30.5), (1, 1, 49, 9), (20, 20, 22, 22)]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("size", [(8, 8), (30, 20)])
def test_resize_box_is_the_antialiased_bilinear_filter(box, size):
    image = noise(40, 50)
    rows = triangle_weights(40, box[1], box[3], size[0])
    columns = triangle_weights(50, box[0], box[2], size[1])
    expected = np.einsum("yh,hwc,xw->yxc", rows, image.astype(float), columns)
    resized = resize_box(image, box, size, "bilinear")
    assert resized.shape == (*size, 3) and resized.dtype == np.uint8
    # Pillow works in steps of 1/256 and rounds between the two passes.
    np.testing.assert_allclose(resized, expected, atol=1.5)


@pytest.mark.parametrize("by", views._FILTERS)
def test_an_image_at_the_size_it_has_is_as_it_was_by_every_filter(by):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    pillow = Image.fromarray(image).resize((7, 5), views._FILTERS[by], box=(0, 0, 7, 5))
    np.testing.assert_array_equal(np.asarray(pillow), image)
    np.testing.assert_array_equal(resize_box(image, (0.0, 0.0, 7.0, 5.0), (5, 7), by), image)
    moved = resize_box(image, (0.0, 0.0, 4.0, 5.0), (5, 7), by)
    assert (moved != image).any()


@pytest.mark.parametrize("box", [(8, 4, 40, 36), (0, 0, 16, 16), (0, 0, 50, 40)])
@pytest.mark.parametrize("channels", [1, 3])
def test_resize_box_equals_crop_and_resize_where_the_filter_stays_inside(box, channels):
    image = noise(40, 50, channels)
    pixels = image[box[1] : box[3], box[0] : box[2]]
    pixels = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
    expected = np.asarray(pixels.resize((8, 8), Image.Resampling.BILINEAR)).reshape(8, 8, channels)
    resized = resize_box(image, box, (8, 8), "bilinear")
    # At the border of a box inside the image the filter also finds the image's pixels beyond it.
    np.testing.assert_array_equal(resized[1:-1, 1:-1], expected[1:-1, 1:-1])
    if box == (0, 0, 50, 40):
        np.testing.assert_array_equal(resized, expected)


def test_resize_box_to_its_own_size_is_a_crop():
    image = noise(40, 50)
    np.testing.assert_array_equal(
        resize_box(image, (10, 8, 26, 24), (16, 16), "bilinear"), image[8:24, 10:26]
    )


@pytest.mark.parametrize(
    "values",
    [
        dict(crop_area=(0.0, 1.0)),
        dict(crop_area=(0.5, 0.2)),
        dict(crop_area=(0.5, 1.2)),
        dict(crop_ratio=(0.0, 1.0)),
        dict(crop_ratio=(2.0, 1.0)),
        dict(eval_crop=0.0),
        dict(eval_crop=1.1),
    ],
)
def test_impossible_ranges_are_refused(values):
    (name,) = values
    with pytest.raises(ValueError, match=name):
        ViewConfig(**values)
