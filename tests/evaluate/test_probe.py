"""The linear probe against scikit-learn's logistic regression."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from distill.evaluate import probe
from distill.evaluate.probe import fit_probe
from distill.parallel import MeshConfig, make_mesh

# One shape for all tests: compiling is most of what they do.
CLASSES, WIDTH, COUNT = 4, 20, 301


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig())


def clusters(count, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    centres = np.random.default_rng(99).standard_normal((CLASSES, WIDTH))
    features = centres[labels] + 4.0 * rng.standard_normal((count, WIDTH))
    return (3.0 + features * np.geomspace(0.1, 10, WIDTH)).astype(np.float32), labels


def reference(features, labels, l2):
    """Scikit-learn sums the losses and weighs them by C, so that C is 1 / (l2 · N)."""
    scaler = StandardScaler().fit(features.astype(np.float64))
    model = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-9, max_iter=10_000)
    return scaler, model.fit(scaler.transform(features.astype(np.float64)), labels)


@pytest.mark.parametrize("block", [16384, 50])
@pytest.mark.parametrize("l2", [1e-1, 1e-2])
def test_one_penalty_gives_the_fit_of_scikit_learn(l2, block, mesh, monkeypatch):
    monkeypatch.setattr(probe, "_BLOCK", block)
    features, labels = clusters(COUNT, 0)
    test, truth = clusters(500, 1)
    fitted = fit_probe(features, labels, CLASSES, mesh=mesh, penalties=(l2,))
    scaler, expected = reference(features, labels, l2)
    assert fitted.l2 == l2
    np.testing.assert_allclose(fitted.classifier.kernel, expected.coef_.T, atol=1e-3)
    bias = fitted.classifier.bias
    np.testing.assert_allclose(bias - bias.mean(), expected.intercept_, atol=1e-3)
    scores = fitted.classifier.scores(test)
    np.testing.assert_array_equal(
        scores.argmax(axis=-1), expected.predict(scaler.transform(test.astype(np.float64)))
    )
    assert 0.5 < fitted.classifier.accuracy(test, truth) < 0.95


def test_the_penalty_is_the_one_that_is_best_on_what_is_held_out(mesh):
    features, labels = clusters(COUNT, 5)
    penalties = (10.0, 1e-1, 1e-4)
    fitted = fit_probe(features, labels, CLASSES, mesh=mesh, penalties=penalties)

    held_out = np.random.default_rng(0).permutation(COUNT)[:31]
    training = np.setdiff1d(np.arange(COUNT), held_out)
    # Standardised on all images, as the probe is.
    z = StandardScaler().fit_transform(features.astype(np.float64))
    scores = []
    for l2 in penalties:
        model = LogisticRegression(C=1 / (l2 * len(training)), tol=1e-9, max_iter=10_000)
        model.fit(z[training], labels[training])
        log_p = model.predict_log_proba(z[held_out])[np.arange(31), labels[held_out]]
        scores.append((model.score(z[held_out], labels[held_out]), log_p.mean()))
    assert fitted.l2 == penalties[scores.index(max(scores))] == 1e-1
    # And the fit is to all images.
    _, expected = reference(features, labels, fitted.l2)
    np.testing.assert_allclose(fitted.classifier.kernel, expected.coef_.T, atol=1e-3)


def test_classes_that_can_be_told_apart_perfectly_end_the_search(mesh):
    labels = np.arange(COUNT) % CLASSES
    features = (100 * np.eye(CLASSES, WIDTH)[labels]).astype(np.float32)
    fitted = fit_probe(features, labels, CLASSES, mesh=mesh)
    assert fitted.classifier.accuracy(features, labels) == 1.0
    assert np.isfinite(fitted.classifier.kernel).all()
