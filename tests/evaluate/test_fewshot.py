"""Few-shot regression against scikit-learn's Ridge."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from distill.errors import UserError
from distill.evaluate.fewshot import draw_shots, drawing_orders, fit_ridge

CLASSES = 4
NAMES = ("ant", "bee", "cat", "dog")
L2 = 2.0**10


def clusters(count, width, seed=0):
    """Features around a centre per class, of very different scales, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % CLASSES)
    centres = np.random.default_rng(99).standard_normal((CLASSES, width))
    features = centres[labels] + 2.0 * rng.standard_normal((count, width))
    return (5.0 + features * np.geomspace(1e-2, 1e2, width)).astype(np.float32), labels


def reference(features, labels, test, l2):
    """Scores of scikit-learn's ridge regression without intercept on whitened features."""
    features, test = features.astype(np.float64), test.astype(np.float64)
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-5
    x, z = (np.c_[(f - mean) / std, np.full(len(f), 100.0)] for f in (features, test))
    y = np.where(labels[:, None] == np.arange(CLASSES), 1.0, -1.0)
    return Ridge(alpha=l2, fit_intercept=False, solver="svd").fit(x, y).predict(z)


@pytest.mark.parametrize("l2", [1e-2, L2])
@pytest.mark.parametrize("count, width", [(200, 12), (12, 200), (13, 12), (12, 12), (12, 13)])
def test_predictions_are_those_of_scikit_learn(count, width, l2):
    features, labels = clusters(count, width)
    test, _ = clusters(50, width, seed=1)
    scores = fit_ridge(features, labels, CLASSES, l2).scores(test)
    np.testing.assert_allclose(scores, reference(features, labels, test, l2), atol=1e-4)


def test_the_penalty_on_the_bias_is_that_of_a_constant_feature_of_100():
    """Whitened features are orthogonal to it, so the bias is the targets' mean, shrunk by l2."""
    features, _ = clusters(12, 5)
    labels = np.array([0] * 6 + [1] * 3 + [2] * 2 + [3])
    targets = 2 * np.bincount(labels) / 12 - 1
    for l2 in (L2, 1e6):
        bias = fit_ridge(features, labels, CLASSES, l2).bias
        np.testing.assert_allclose(bias, targets * 12e4 / (12e4 + l2), rtol=1e-6, atol=1e-9)


def test_a_feature_that_does_not_vary_among_the_shots_is_no_obstacle():
    features, labels = clusters(40, 6)
    features[:, 2] = 7.0
    test, truth = clusters(400, 6, seed=1)
    test[:, 2] = 7.0
    classifier = fit_ridge(features, labels, CLASSES, 1.0)
    np.testing.assert_allclose(
        classifier.scores(test), reference(features, labels, test, 1.0), atol=1e-4
    )
    expected = np.mean(reference(features, labels, test, 1.0).argmax(axis=-1) == truth)
    assert classifier.accuracy(test, truth) == pytest.approx(expected)
    assert 0.4 < expected < 1.0


def test_one_image_per_class_is_enough():
    features, labels = np.eye(4, 9, dtype=np.float32), np.arange(4)
    assert fit_ridge(features, labels, CLASSES, L2).accuracy(features, labels) == 1.0


LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(CLASSES), (9, 5, 30, 7)))


def draw(shots, seed=0, labels=LABELS, readable=None):
    return draw_shots(drawing_orders(labels, CLASSES, seed), shots, NAMES, readable)


@pytest.mark.parametrize("shots", [1, 3, 5])
def test_every_class_gives_its_shots(shots):
    drawn = draw(shots)
    assert len(set(drawn)) == len(drawn) == CLASSES * shots
    assert LABELS[drawn].tolist() == np.repeat(np.arange(CLASSES), shots).tolist()


def test_the_draw_is_a_function_of_the_seed_alone():
    np.testing.assert_array_equal(draw(3, seed=1), draw(3, seed=1))
    assert set(draw(3, seed=1)) != set(draw(3, seed=0))


def test_fewer_shots_are_among_more():
    assert set(draw(2)) < set(draw(5))


def test_every_image_can_be_drawn():
    drawn = {index for seed in range(300) for index in draw(2, seed)}
    assert drawn == set(range(len(LABELS)))


def test_the_next_of_its_class_stands_in_for_an_image_that_cannot_be_read():
    readable = np.ones(len(LABELS), bool)
    longer, before = draw(4).reshape(CLASSES, 4), draw(3).reshape(CLASSES, 3)
    readable[before[2, 1]] = False
    after = draw(3, readable=readable).reshape(CLASSES, 3)
    np.testing.assert_array_equal(np.delete(after, 2, axis=0), np.delete(before, 2, axis=0))
    assert after[2].tolist() == longer[2, [0, 2, 3]].tolist()


def test_a_class_with_fewer_images_than_shots_is_named():
    with pytest.raises(UserError, match="6 images of every class, but 'bee' has 5"):
        draw(6)
    readable = np.ones(len(LABELS), bool)
    readable[np.flatnonzero(LABELS == 3)[:3]] = False
    with pytest.raises(UserError, match="5 images of every class, but 'dog' has 4"):
        draw(5, readable=readable)


def test_a_class_without_any_image_is_named():
    with pytest.raises(UserError, match="but 'cat' has 0"):
        draw(1, labels=LABELS[LABELS != 2])
