"""Corruptions of views, against other ways to compute them."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from distill.data.corruptions import CORRUPTIONS, SEVERITIES, Corruption, _gaussian

FLAT = np.full((64, 64, 3), 128, np.uint8)
RANDOM = np.random.default_rng(0).integers(40, 216, (64, 48, 3)).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_corruption_is_a_function_of_seed_name_and_image(name, channels):
    image = RANDOM[..., :channels]
    found = [Corruption(name, 3)(image, 5), Corruption(name, 3)(image, 5)]
    assert found[0].dtype == np.uint8 and found[0].shape == image.shape
    np.testing.assert_array_equal(*found)
    restored = pickle.loads(pickle.dumps(Corruption(name, 3)))  # noqa: S301
    np.testing.assert_array_equal(restored(image, 5), found[0])
    assert (found[0] != image).any()
    if "noise" in name or name == "fog":
        assert (Corruption(name, 3)(image, 6) != found[0]).any()
        assert (Corruption(name, 3, seed=1)(image, 5) != found[0]).any()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severities_do_ever_more_harm(name):
    smooth = ndimage.gaussian_filter(RANDOM.astype(float), (3, 3, 0))
    image = np.clip(128 + 6 * (smooth - smooth.mean()), 0, 255).astype(np.uint8)
    found = [Corruption(name, one, side=64)(image, 0) for one in SEVERITIES]
    harm = [np.square(one - image.astype(float)).mean() for one in found]
    assert harm[0] > 0 and harm[-1] > harm[0]
    if name not in ("fog", "rotation"):
        assert harm == sorted(harm)


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("gaussian_noise", (0.08, 0.12, 0.18, 0.26, 0.38)),
        ("shot_noise", tuple(np.sqrt(128 / 255 / np.array([60, 25, 12, 5, 3])))),
        ("speckle_noise", tuple(128 / 255 * np.array([0.15, 0.2, 0.35, 0.45, 0.6]))),
    ],
)
def test_noise_is_as_strong_as_it_is_said_to_be(name, deviation):
    for severity in (1, 2, 3):
        found = Corruption(name, severity)(FLAT, 0) / 255
        assert found.std() == pytest.approx(deviation[severity - 1], rel=0.05)
        assert found.mean() == pytest.approx(128 / 255, abs=0.01)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulses_are_as_many_as_they_are_said_to_be(severity):
    found = Corruption("impulse_noise", severity)(FLAT, 0)
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    assert (found == 0).mean() == pytest.approx(share / 2, abs=0.01)
    assert (found == 255).mean() == pytest.approx(share / 2, abs=0.01)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur_is_that_of_scipy(severity):
    sigma = (1, 2, 3, 4, 6)[severity - 1] * 48 / 224
    expected = ndimage.gaussian_filter(
        RANDOM.astype(float), (sigma, sigma, 0), mode="reflect", truncate=8
    )
    found = Corruption("gaussian_blur", severity)(RANDOM, 0)
    assert np.abs(found - expected).max() < 0.6


def test_defocus_is_a_convolution_with_a_disk():
    image = np.zeros((41, 41, 1), np.uint8)
    image[20, 20] = 255
    found = Corruption("defocus_blur", 5, side=41)(image, 0)[..., 0].astype(float)
    rows, columns = np.nonzero(found)
    assert np.hypot(rows - 20, columns - 20).max() <= 10.7
    assert found.sum() == pytest.approx(255, rel=0.2)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_brightness_and_jpeg_are_their_closed_forms(severity):
    image = RANDOM / 255
    mean, left = image.mean(axis=(0, 1)), (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    expected = np.round(255 * (mean + left * (image - mean)))
    assert np.abs(Corruption("contrast", severity)(RANDOM, 0) - expected).max() <= 1
    brighter = _brightened(image, severity / 10)
    found = Corruption("brightness", severity)(RANDOM, 0)
    assert np.abs(found - 255 * brighter).max() <= 1
    buffer = io.BytesIO()
    quality = (25, 18, 15, 10, 7)[severity - 1]
    Image.fromarray(RANDOM).save(buffer, "JPEG", quality=quality)
    found = Corruption("jpeg", severity)(RANDOM, 0)
    np.testing.assert_array_equal(found, np.asarray(Image.open(buffer)))


def _brightened(image, added):
    """By matplotlib's hue, saturation and value."""
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

    hsv = rgb_to_hsv(image)
    hsv[..., 2] = np.clip(hsv[..., 2] + added, 0, 1)
    return hsv_to_rgb(hsv)


def test_lengths_are_of_the_images_side():
    small, large = _gaussian(1.0), _gaussian(2.0)
    assert large.shape[0] > small.shape[0]
    found = Corruption("gaussian_blur", 3, side=64)(RANDOM, 0)
    assert (found != Corruption("gaussian_blur", 3)(RANDOM, 0)).any()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_tiny_and_black_images_are_corrupted_too(name):
    for severity in SEVERITIES:
        for image in (np.zeros((8, 8, 1), np.uint8), np.full((1, 1, 3), 255, np.uint8)):
            found = Corruption(name, severity)(image, 0)
            assert found.shape == image.shape and found.dtype == np.uint8


@pytest.mark.parametrize(("name", "severity"), [("snow", 1), ("fog", 0), ("fog", 6)])
def test_what_there_is_not_is_refused(name, severity):
    with pytest.raises(ValueError, match=r"there is no corruption 'snow'|severities are"):
        Corruption(name, severity)
