"""Nearest neighbours against a float64 transcription."""

import numpy as np
import pytest

from distill.errors import RunFailed, UserError
from distill.evaluate import neighbours
from distill.evaluate.neighbours import neighbour_predictions, neighbour_shares

CLASSES, WIDTH = 5, 12


@pytest.fixture
def features():
    """A bank with labels, and queries: clusters that overlap, all of them to one side of 0."""
    rng = np.random.default_rng(0)
    centres = 4.0 + rng.standard_normal((CLASSES, WIDTH))

    def draw(count):
        labels = rng.integers(0, CLASSES, count)
        # Lengths differ, which cosine similarity must not see.
        noise = 1.2 * rng.standard_normal((count, WIDTH))
        lengths = rng.uniform(0.1, 10, (count, 1))
        return ((centres[labels] + noise) * lengths).astype(np.float32), labels

    return *draw(157), *draw(61)


def reference(bank, labels, queries, k):
    """Votes of the k nearest by cosine, weighted by exp(similarity / 0.07), [Q, C]."""
    bank, queries = (
        f / np.linalg.norm(f.astype(np.float64), axis=-1)[:, None] for f in (bank, queries)
    )
    votes = np.zeros((len(queries), CLASSES))
    for query, row in enumerate(queries @ bank.T):
        for nearest in np.argsort(-row)[:k]:
            votes[query, labels[nearest]] += np.exp(row[nearest] / 0.07)
    return votes


@pytest.mark.parametrize("block", [None, 16, 61, 157])
def test_predictions_are_those_of_the_reference(features, block, monkeypatch):
    bank, labels, queries, truth = features
    if block:
        monkeypatch.setattr(neighbours, "_BANK", block)
        monkeypatch.setattr(neighbours, "_QUERIES", max(block // 2, 1))
    found = neighbour_predictions(bank, labels, queries, CLASSES, (1, 7, 20, 157))
    assert list(found) == [1, 7, 20, 157]
    for k, predictions in found.items():
        votes = reference(bank, labels, queries, k)
        assert predictions.shape == truth.shape
        np.testing.assert_array_equal(predictions, votes.argmax(axis=-1))
    # Neither chance nor perfect but where all vote, and different for each k.
    accuracies = [np.mean(p == truth) for p in found.values()]
    assert all(0.4 < accuracy < 0.95 for accuracy in accuracies[:3])
    assert len({p.tobytes() for p in found.values()}) == 4


def test_near_neighbours_outvote_many():
    # Of three neighbours the nearest has a weight of exp(0.3 / 0.07) times the others'.
    bank = np.array([[1.0, 0.1], [1.0, 1.0], [1.0, -1.0]], np.float32)
    labels = np.array([0, 1, 1])
    query = np.array([[2.0, 0.0]], np.float32)
    assert neighbour_predictions(bank, labels, query, 2, (3,))[3].tolist() == [0]


def test_an_embedding_of_zeros_is_classified_too(features):
    bank, labels, queries, _ = features
    queries[3] = 0.0
    found = neighbour_predictions(bank, labels, queries, CLASSES, (20,))[20]
    others = np.arange(len(queries)) != 3
    expected = reference(bank, labels, queries[others], 20).argmax(axis=-1)
    np.testing.assert_array_equal(found[others], expected)
    assert 0 <= found[3] < CLASSES


def test_more_neighbours_than_images_are_refused(features):
    bank, labels, queries, _ = features
    with pytest.raises(UserError, match="20 neighbours asked for among 9 images"):
        neighbour_predictions(bank[:9], labels[:9], queries, CLASSES, (1, 20))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_lengths_whose_squares_are_beyond_float32_change_nothing(features, scale):
    bank, labels, queries, _ = features
    expected = neighbour_predictions(bank, labels, queries, CLASSES, (1, 20))
    bank, queries = bank * np.float32(scale), queries * np.float32(scale)
    found = neighbour_predictions(bank, labels, queries, CLASSES, (1, 20))
    for k in (1, 20):
        assert np.mean(found[k] == expected[k]) > 0.98


@pytest.mark.parametrize("block", [None, 16, 61])
def test_shares_are_the_weighted_mean_of_the_nearest_patches(features, block, monkeypatch):
    if block:
        monkeypatch.setattr(neighbours, "_BANK", block)
        monkeypatch.setattr(neighbours, "_QUERIES", block // 2)
    bank, labels, queries, _ = features
    rng = np.random.default_rng(1)
    shares = 0.7 * np.eye(CLASSES)[labels] + 0.3 * rng.dirichlet(np.ones(CLASSES), len(bank))
    shares[::4] = np.nan
    found = neighbour_shares(bank, shares.astype(np.float32), queries)
    unit_bank, unit_queries = (
        f / np.linalg.norm(f.astype(np.float64), axis=-1)[:, None] for f in (bank, queries)
    )
    expected = np.zeros((len(queries), CLASSES))
    for query, row in enumerate(unit_queries @ unit_bank.T):
        nearest = [place for place in np.argsort(-row) if place % 4][:20]
        weights = np.exp(row[nearest] / 0.07)
        expected[query] = weights @ shares[nearest] / weights.sum()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_shares_of_the_nearest_need_so_many_patches_with_a_label(features):
    bank, labels, queries, _ = features
    shares = np.eye(CLASSES)[labels]
    shares[19:] = np.nan
    with pytest.raises(UserError, match="20 neighbours asked for among 19 patches"):
        neighbour_shares(bank, shares, queries)
    queries[5] = np.nan
    with pytest.raises(RunFailed, match="the features of patch 5 of 61 are not finite"):
        neighbour_shares(bank, shares, queries, 3)
