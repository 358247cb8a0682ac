"""Segmentation's figures beside scikit-learn's and plain loops."""

import itertools

import numpy as np
import pytest

from distill.analysis.segmentation import PixelConfusion, nested_fractions, patch_shares
from distill.errors import UserError

CLASSES = 6


def images(count=7):
    """Predictions and labels of images of several sizes, some of it ignored; class 4 is nowhere,
    5 only predicted."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        size = tuple(rng.integers(3, 20, 2))
        label = rng.choice([0, 1, 2, 3, 255], size, p=[0.5, 0.2, 0.1, 0.1, 0.1]).astype(np.uint8)
        wrong = rng.choice([0, 1, 2, 3, 5], size)
        found.append((np.where(rng.random(size) < 0.6, label, wrong), label))
    return found


def total(pairs):
    return sum((PixelConfusion.of(*pair, CLASSES) for pair in pairs), PixelConfusion.none(CLASSES))


def flat(pairs):
    prediction, label = (
        np.concatenate([one.reshape(-1) for one in part]) for part in zip(*pairs, strict=True)
    )
    return prediction[label != 255], label[label != 255]


def test_the_matrix_is_scikit_learns_over_the_whole_set():
    metrics = pytest.importorskip("sklearn.metrics")
    pairs = images()
    found = total(pairs)
    prediction, label = flat(pairs)
    expected = metrics.confusion_matrix(label, prediction, labels=range(CLASSES))
    np.testing.assert_array_equal(found.matrix, expected)
    assert found.matrix.dtype == np.int64
    # What is ignored counts among the predictions neither.
    assert found.matrix.sum() == len(label) < sum(one.size for one, _ in pairs)
    # In any order and grouping.
    np.testing.assert_array_equal((total(pairs[4:]) + total(pairs[:4][::-1])).matrix, found.matrix)


def test_figures_are_scikit_learns_over_the_classes_that_are_somewhere():
    metrics = pytest.importorskip("sklearn.metrics")
    pairs = images()
    found, (prediction, label) = total(pairs), flat(pairs)
    there = [0, 1, 2, 3, 5]
    iou = metrics.jaccard_score(label, prediction, labels=there, average=None, zero_division=0)
    np.testing.assert_allclose(found.iou()[there], iou, rtol=1e-12)
    assert np.isnan(found.iou()[4]) and found.iou()[5] == 0
    recall = metrics.recall_score(label, prediction, labels=[0, 1, 2, 3], average=None)
    np.testing.assert_allclose(found.class_accuracy()[:4], recall, rtol=1e-12)
    assert np.isnan(found.class_accuracy()[4:]).all()
    expected = {
        "mean_iou": iou.mean(),
        "pixel_accuracy": metrics.accuracy_score(label, prediction),
        "mean_class_accuracy": recall.mean(),
    }
    assert found.figures() == pytest.approx(expected, rel=1e-12)


def test_a_row_of_each_class_says_what_there_is_of_it():
    label, prediction = np.array([[0, 0, 0, 255]]), np.array([[0, 0, 1, 2]])
    rows = PixelConfusion.of(prediction, label, 3).per_class(["a", "b", "c"])
    assert rows == [
        {"class": "a", "iou": 2 / 3, "accuracy": 2 / 3, "labelled": 3, "predicted": 2},
        {"class": "b", "iou": 0.0, "accuracy": None, "labelled": 0, "predicted": 1},
        {"class": "c", "iou": None, "accuracy": None, "labelled": 0, "predicted": 0},
    ]


def test_counts_are_exact_beyond_what_float32_holds():
    one = PixelConfusion(np.full((2, 2), 2**24, np.int64))
    assert (one + PixelConfusion.of(np.array([[1]]), np.array([[1]]), 2)).matrix[1, 1] == 2**24 + 1


def test_of_an_image_that_is_ignored_there_is_nothing():
    nothing = PixelConfusion.of(np.full((2, 2), 77), np.full((2, 2), 255, np.uint8), CLASSES)
    assert nothing.figures() == {} and not nothing.matrix.any()


@pytest.mark.parametrize(("value", "dtype"), [(6, np.uint8), (254, np.uint8), (-1, np.int32)])
def test_a_label_out_of_range_is_named_with_its_file(value, dtype):
    label = np.zeros((3, 4), dtype)
    label[1, 2] = value
    said = rf"a\.png holds {value} at row 1, column 2; expected 0 to 5, or 255 for no class"
    with pytest.raises(UserError, match=said):
        PixelConfusion.of(np.zeros((3, 4), int), label, CLASSES, source="a.png")
    with pytest.raises(UserError, match=said):
        patch_shares(label, (1, 1), CLASSES, source="a.png")
    ignored = PixelConfusion.of(np.zeros((3, 4), int), label, CLASSES, ignore=value)
    assert ignored.matrix[0, 0] == 11


@pytest.mark.parametrize("value", [6, -1])
def test_a_prediction_of_no_class_is_an_error_where_there_is_a_label(value):
    prediction, label = np.full((2, 2), value), np.array([[0, 255], [255, 255]])
    with pytest.raises(UserError, match=f"prediction for a.png holds {value} at row 0, column 0"):
        PixelConfusion.of(prediction, label, CLASSES, source="a.png")


def test_a_label_of_another_size_is_an_error():
    with pytest.raises(UserError, match=r"a\.png is 4×5 pixels .* its prediction 5×4"):
        PixelConfusion.of(np.zeros((5, 4), int), np.zeros((4, 5), int), CLASSES, source="a.png")


@pytest.mark.parametrize("size", [(8, 12), (9, 11), (2, 3)])
def test_shares_of_patches_are_those_of_a_plain_loop(size):
    label = np.random.default_rng(0).choice([0, 1, 3, 255], size)
    label[: size[0] // 2, : size[1] // 2] = 255
    found = patch_shares(label, (4, 3), 4)
    pixels = [[[] for _ in range(3)] for _ in range(4)]
    for y in range(size[0]):
        for x in range(size[1]):
            if label[y, x] != 255:
                row, column = int((y + 0.5) / size[0] * 4), int((x + 0.5) / size[1] * 3)
                pixels[row][column].append(label[y, x])
    for y in range(4):
        for x in range(3):
            of = np.array(pixels[y][x])
            expected = [np.mean(of == c) for c in range(4)] if of.size else [np.nan] * 4
            np.testing.assert_allclose(found[y, x], expected, rtol=1e-6)
    assert found.dtype == np.float32 and np.isnan(found[0, 0]).all()


def test_fractions_are_parts_of_each_other_and_of_the_seed():
    found = nested_fractions(1000, (1 / 16, 1 / 8, 0.5, 1), seed=3)
    assert [len(one) for one in found.values()] == [62, 125, 500, 1000]
    sizes = sorted(found)
    for small, large in itertools.pairwise(sizes):
        np.testing.assert_array_equal(found[large][: len(found[small])], found[small])
    assert sorted(found[1].tolist()) == list(range(1000))
    again, other = (nested_fractions(1000, (0.5,), seed=seed)[0.5] for seed in (3, 4))
    np.testing.assert_array_equal(again, found[0.5])
    assert set(other.tolist()) != set(again.tolist())


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5])
def test_what_is_no_fraction_is_refused(fraction):
    with pytest.raises(UserError, match="is no fraction of images"):
        nested_fractions(100, (fraction,), seed=0)


def test_a_fraction_without_an_image_is_refused():
    with pytest.raises(UserError, match=r"0\.0625 of 7 images is none"):
        nested_fractions(7, (1 / 16,), seed=0)
