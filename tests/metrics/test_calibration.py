"""The bins of the calibration error, against a plain loop over them in float64."""

import jax
import numpy as np
import pytest

from distill.metrics import CalibrationError
from distill.metrics.calibration import BINS, bin_of
from distill.metrics.classification import label_metrics

EDGES = np.arange(BINS + 1, dtype=np.float64) / BINS


def bin_by_definition(confidence):
    """The m − 1 with confidence in ((m − 1)/M, m/M] (arXiv 1706.04599, §2); 0 is in the first."""
    for m in range(1, BINS + 1):
        if (m - 1) / BINS < confidence <= m / BINS:
            return m - 1
    assert confidence == 0
    return 0


def error_by_definition(confidence, correct):
    """Σ |B_m|/n · |acc(B_m) − conf(B_m)| (eq. 3)."""
    bins = np.array([bin_by_definition(c) for c in confidence])
    error = 0.0
    for m in range(BINS):
        if (inside := bins == m).any():
            error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return error


def error(confidence, correct, where=None):
    confidence = np.asarray(confidence, np.float32)
    where = np.ones(len(confidence), bool) if where is None else where
    return CalibrationError.of(confidence, np.asarray(correct), where).value()


def test_a_confidence_on_an_edge_is_in_the_bin_below_it():
    named = np.array([0, 1 / 15, 0.2, 1 / 3, 0.4, 0.6, 2 / 3, 0.8, 14 / 15, 1])
    for confidences in (EDGES, named):
        expected = [bin_by_definition(c) for c in confidences]
        assert bin_of(confidences.astype(np.float32)).tolist() == expected
    assert bin_of(EDGES.astype(np.float32)).tolist() == [0, *range(BINS)]


def test_the_neighbours_of_an_edge_are_on_its_two_sides():
    edges = EDGES[1:-1].astype(np.float32)
    below, above = np.nextafter(edges, np.float32(0)), np.nextafter(edges, np.float32(1))
    for confidences in (below, above):
        expected = [bin_by_definition(c) for c in confidences.astype(np.float64)]
        assert bin_of(confidences).tolist() == expected
    assert (bin_of(above) - bin_of(below) == 1).all()
    assert bin_of(np.float32([1e-30, 1 - 2**-24])).tolist() == [0, BINS - 1]


@pytest.mark.parametrize("tied", [1, 3, 5])
def test_a_model_that_wavers_between_classes_is_on_an_edge(tied):
    """1/3 and 1/5 are fifteenths: the bins that end there hold them."""
    logits = np.full((4, 6), -200.0, np.float32)
    logits[:, :tied] = 0.7
    metric = jax.jit(label_metrics)(logits, np.zeros(4, int), where=np.ones(4, bool))
    inside = np.flatnonzero(metric["calibration_error"].confidence)
    assert inside.tolist() == [bin_by_definition(1 / tied)]


def test_bins_do_not_share_what_only_a_shift_would_join():
    """0.99 and 0.90 are two bins of 15: one is too sure, and one not sure enough."""
    confidence = np.r_[np.full(10, 0.99), np.full(10, 0.90)]
    correct = np.r_[np.arange(10) < 8, np.ones(10, bool)]
    assert error_by_definition(confidence, correct) == pytest.approx(0.145)
    assert error(confidence, correct) == pytest.approx(0.145, abs=1e-6)


def test_every_pair_of_neighbouring_bins_is_kept_apart():
    """In each bin but one, half are right; in the one, all are: no bin may get another's."""
    middles = (EDGES[1:] + EDGES[:-1]) / 2
    confidence = np.repeat(middles, 10)
    for m in range(BINS):
        correct = (np.arange(len(confidence)) % 2 == 0) | (np.repeat(np.arange(BINS), 10) == m)
        expected = error_by_definition(confidence, correct)
        assert error(confidence, correct) == pytest.approx(expected, abs=1e-6)


def test_random_confidences_and_those_on_edges_give_the_error_of_the_definition():
    rng = np.random.default_rng(0)
    drawn = np.r_[rng.random(500), EDGES, EDGES].astype(np.float32)
    # As the definition has them: what float32 makes of an edge is the edge.
    confidence = np.r_[drawn[:500].astype(np.float64), EDGES, EDGES]
    correct = rng.random(len(drawn)) < 0.3 + 0.3 * drawn
    expected = error_by_definition(confidence, correct)
    assert error(drawn, correct) == pytest.approx(expected, rel=1e-5)
    where = rng.random(len(drawn)) < 0.5
    expected = error_by_definition(confidence[where], correct[where])
    assert error(drawn, correct, where) == pytest.approx(expected, rel=1e-5)


def test_of_no_examples_nothing_is_said():
    assert error([0.5], [True], np.zeros(1, bool)) is None
