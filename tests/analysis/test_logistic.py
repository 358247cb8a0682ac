"""Logistic regression on shares beside scikit-learn's on weighted labels."""

import numpy as np
import pytest

from distill.analysis.linear import LinearClassifier, Standardisation
from distill.analysis.logistic import cross_entropy, fit_logistic, fit_logistic_probe
from distill.errors import UserError

WIDTH, CLASSES = 6, 4


def drawn(count=400, seed=0):
    """Tokens far from 0, and shares of classes that depend on them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, WIDTH))
    scores = x[:, :CLASSES] + rng.standard_normal((count, CLASSES))
    share = rng.uniform(0.5, 1, (count, 1))
    y = share * np.eye(CLASSES)[scores.argmax(axis=1)] + (1 - share) / CLASSES
    return (x * np.logspace(-1, 1, WIDTH) + 20).astype(np.float32), y


def parts_of(x, y, sizes=(0.3, 0.35)):
    """The same in three parts, some patches of which have no label."""
    x = np.concatenate([x, x[:50] + 5])
    y = np.concatenate([y, np.full((50, CLASSES), np.nan)])
    bounds = [int(len(x) * size) for size in sizes]
    return lambda: zip(np.split(x, bounds), np.split(y, bounds), strict=True)


def start(x):
    standardisation = Standardisation.of(x)
    return LinearClassifier(standardisation, np.zeros((WIDTH, CLASSES)), np.zeros(CLASSES))


def by_scikit_learn(x, y, l2):
    """Each patch counts for each class with its share; logits of standardised tokens."""
    model = pytest.importorskip("sklearn.linear_model").LogisticRegression(
        C=1 / (l2 * len(x)), tol=1e-8, max_iter=5000
    )
    labels = np.tile(np.arange(CLASSES), len(x))
    model.fit(np.repeat(x, CLASSES, axis=0), labels, sample_weight=y.reshape(-1))
    return model.predict_log_proba(x)


@pytest.mark.parametrize("l2", [1.0, 1e-2])
def test_the_fit_is_scikit_learns_on_labels_weighted_by_shares(l2):
    x, y = drawn()
    found = fit_logistic(parts_of(x, y), start(x), l2)
    expected = by_scikit_learn(found.standardisation(x), y, l2)
    logits = found.scores(x)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(logs, expected, rtol=0, atol=1e-3)
    reference = -np.mean(np.sum(y * logs, axis=1))
    assert cross_entropy(found, parts_of(x, y)) == pytest.approx(reference, rel=1e-5)


def test_the_penalty_is_best_on_what_is_held_out_and_the_fit_is_to_all():
    (x, y), (held_x, held_y) = drawn(60), drawn(400, seed=1)
    penalties = (10, 0.1, 1e-5)
    standardisation = Standardisation.of(np.concatenate([x, held_x]))
    training, held_out = parts_of(x, y), parts_of(held_x, held_y)
    probe = fit_logistic_probe(training, held_out, standardisation, CLASSES, penalties)
    assert probe.l2 == 0.1 == min(probe.cross_entropies, key=probe.cross_entropies.get)
    begin = LinearClassifier(standardisation, np.zeros((WIDTH, CLASSES)), np.zeros(CLASSES))
    alone = fit_logistic(training, begin, 0.1)
    assert probe.cross_entropies[0.1] == pytest.approx(cross_entropy(alone, held_out), rel=1e-3)
    every = parts_of(np.concatenate([x, held_x]), np.concatenate([y, held_y]))
    expected = fit_logistic(every, begin, 0.1)
    np.testing.assert_allclose(probe.classifier.kernel, expected.kernel, rtol=0, atol=1e-3)


def test_without_a_label_there_is_nothing_to_fit_to():
    x, y = drawn()
    with pytest.raises(UserError, match="no patch with a label"):
        fit_logistic(lambda: [(x, np.full_like(y, np.nan))], start(x), 0.1)
