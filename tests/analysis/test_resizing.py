"""Resizing and windows beside PyTorch's and plain loops."""

import numpy as np
import pytest

from distill.analysis import resizing
from distill.analysis.resizing import classes_at, resize_bilinear, resize_nearest
from distill.analysis.windows import WindowMean, cut_window, windows_of
from distill.errors import UserError

SIZES = [
    ((7, 5), (7, 5)),
    ((7, 5), (28, 31)),
    ((37, 50), (11, 17)),
    ((1, 9), (6, 1)),
    ((3, 4), (480, 2)),
]


def drawn(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def by_torch(array, size, mode):
    """In float64: in float32 torch rounds places between pixels, too."""
    torch = pytest.importorskip("torch")
    options = {"align_corners": False} if mode == "bilinear" else {}
    channels_first = torch.from_numpy(np.moveaxis(array, -1, 0)[None].astype(np.float64))
    found = torch.nn.functional.interpolate(channels_first, size, mode=mode, **options)
    return np.moveaxis(found[0].numpy(), 0, -1)


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_bilinear_is_that_of_torch(old, new):
    array = drawn(*old, 6)
    found = resize_bilinear(array, new)
    assert found.dtype == np.float32 and found.shape == (*new, 6)
    np.testing.assert_allclose(found, by_torch(array, new, "bilinear"), rtol=0, atol=1e-6)
    # A grid without channels is one, too.
    np.testing.assert_array_equal(resize_bilinear(array[..., 2], new), found[..., 2])


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_nearest_is_that_of_torch_which_is_exact(old, new):
    mask = np.random.default_rng(1).integers(0, 200, old, np.uint8)
    found = resize_nearest(mask, new)
    assert found.dtype == np.uint8
    expected = by_torch(mask[..., None], new, "nearest-exact")
    np.testing.assert_array_equal(found, expected[..., 0])


@pytest.mark.parametrize("block", [1, 500, 1 << 24])
def test_the_highest_of_resized_scores_does_not_depend_on_blocks(block, monkeypatch):
    monkeypatch.setattr(resizing, "_BLOCK", block)
    scores = drawn(5, 7, 6)
    found = classes_at(scores, (33, 20))
    # Rounding may choose another of two that are almost equal.
    resized = by_torch(scores, (33, 20), "bilinear")
    highest = np.take_along_axis(resized, found[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(highest, resized.max(axis=-1), rtol=0, atol=1e-6)
    assert found.dtype == np.int32 and len(np.unique(found)) == 6


def starts_by_hand(length, window, stride):
    """The grid of mmsegmentation."""
    found = []
    for number in range(max(length - window + stride - 1, 0) // stride + 1):
        end = min(number * stride + window, length)
        found.append(max(end - window, 0))
    return found


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [((512, 683), 512, 341), ((16, 16), 8, 8), ((17, 8), 8, 5), ((5, 30), 8, 8), ((3, 4), 8, 1)],
)
def test_windows_stand_where_they_stand_in_mmsegmentation(size, window, stride):
    found = windows_of(size, window, stride)
    rows, columns = (starts_by_hand(length, window, stride) for length in size)
    assert [one[:2] for one in found] == [(y, x) for y in rows for x in columns]
    seen = np.zeros(size, int)
    for top, left, height, width in found:
        assert (height, width) == (min(window, size[0]), min(window, size[1]))
        seen[top : top + height, left : left + width] += 1
    assert seen.min() >= 1


@pytest.mark.parametrize("stride", [0, 9])
def test_a_stride_that_leaves_gaps_is_refused(stride):
    with pytest.raises(UserError, match=f"a stride of {stride} pixels .* expected 1 to 8"):
        windows_of((20, 20), 8, stride)


@pytest.mark.parametrize(("size", "stride"), [((13, 19), 5), ((6, 19), 8), ((3, 5), 3)])
def test_scores_of_windows_are_averaged_where_they_overlap(size, stride):
    side, image = 8, drawn(*size, 2)
    windows = windows_of(size, side, stride)
    mean, total, times = WindowMean.empty(size, 2), np.zeros((*size, 2)), np.zeros((*size, 1))
    for number, window in enumerate(windows):
        shown = cut_window(image, window, side, fill=9)
        assert shown.shape == (side, side, 2)
        # A model that halves the resolution, and says another thing of each window.
        scores = (number + 1) * shown[::2, 1::2]
        mean.add(window, scores, side)
        upsampled = by_torch(scores, (side, side), "bilinear")
        for y in range(window.height):
            for x in range(window.width):
                total[window.top + y, window.left + x] += upsampled[y, x]
                times[window.top + y, window.left + x] += 1
    np.testing.assert_allclose(mean.mean(), total / times, rtol=0, atol=1e-5)


def test_what_a_window_lacks_is_filled_up_on_the_right_and_at_the_bottom():
    image = np.arange(1, 7).reshape(2, 3)
    (window,) = windows_of((2, 3), 4, 4)
    expected = [[1, 2, 3, 0], [4, 5, 6, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(cut_window(image, window, 4), expected)
