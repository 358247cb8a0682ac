"""The confusion matrix and what is read off it, against scikit-learn and counting by hand."""

import functools

import jax
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score, recall_score

from distill.metrics import ConfusionMatrix

NAMES = ("ant", "bee", "cat", "dog")


# Compiled once for each number of labels.
of = jax.jit(ConfusionMatrix.of, static_argnames="class_names")


def on_host(metric):
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.int64)[()], metric)


def measured(predictions, labels, where=None):
    where = np.ones(np.shape(labels), bool) if where is None else where
    return on_host(of(np.asarray(predictions), np.asarray(labels), where, class_names=NAMES))


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 301)
    return np.where(rng.random(301) < 0.6, labels, rng.integers(0, 4, 301)), labels


def test_it_counts_as_scikit_learn_does(drawn):
    predictions, labels = drawn
    metric = measured(predictions, labels)
    np.testing.assert_array_equal(metric.matrix, confusion_matrix(labels, predictions))
    found = metric.value()
    recalls = recall_score(labels, predictions, average=None)
    assert [found[f"accuracy/{name}"] for name in NAMES] == pytest.approx(recalls)
    assert found["mean_accuracy"] == pytest.approx(recalls.mean())
    jaccard = jaccard_score(labels, predictions, average="macro")
    assert found["mean_iou"] == pytest.approx(jaccard)


@pytest.mark.parametrize("size", [1, 7, 150, 301])
def test_it_is_the_same_whatever_the_batches(drawn, size):
    predictions, labels = drawn
    parts = [
        measured(predictions[start : start + size], labels[start : start + size])
        for start in range(0, 301, size)
    ]
    whole = functools.reduce(lambda one, other: one.merge(other), parts)
    assert whole.value() == measured(predictions, labels).value()
    assert whole.count == 301


def test_pixels_count_where_they_are_labelled_and_images_once():
    labels = np.array([[[0, 1], [255, 255]], [[-1, -1], [-1, 2]], [[3, 3], [3, 3]]])
    predictions = np.array([[[0, 0], [1, 2]], [[0, 1], [2, 2]], [[3, 3], [3, 3]]])
    where = np.array([True, True, False])[:, None, None]
    metric = measured(predictions, labels, where)
    assert metric.count == 2
    assert metric.matrix.sum() == 3
    found = metric.value()
    assert found["accuracy/ant"] == 1 and found["accuracy/bee"] == 0 and found["accuracy/cat"] == 1
    assert found["mean_iou"] == pytest.approx((1 / 2 + 0 + 1) / 3)


def test_of_what_is_not_there_nothing_is_said():
    nothing = measured([0, 1], [-1, -1])
    assert nothing.count == 0 and set(nothing.value().values()) == {None}
    some = measured([0, 1], [0, 0]).value()
    # A class that is predicted and never there has a union, and no accuracy.
    assert some["accuracy/ant"] == 0.5 and some["accuracy/bee"] is None
    assert some["mean_accuracy"] == 0.5 and some["mean_iou"] == 0.25


def test_classes_of_one_name_are_told_apart():
    metric = ConfusionMatrix.of(np.int32([0]), np.int32([1]), np.array([True]), ("a", "b", "a"))
    assert [*metric.value()][2:] == ["accuracy/a-0", "accuracy/b", "accuracy/a-2"]


def test_counts_are_added_as_whole_numbers():
    """In float32, 2²⁴ and a thousand ones are 2²⁴."""
    total = jax.tree.map(lambda leaf: leaf * 2**24, measured([0], [0]))
    one = measured([1], [0])
    for _ in range(1000):
        total = total.merge(one)
    assert total.value()["accuracy/ant"] == 2**24 / (2**24 + 1000)
