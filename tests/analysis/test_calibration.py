"""Calibration of predictions, against plain loops, scikit-learn and the metric of devices."""

import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from distill.analysis.calibration import (
    BINS,
    binary_calibration,
    equal_mass,
    equal_width,
    top_label_calibration,
)
from distill.analysis.predictions import Predictions
from distill.errors import UserError
from distill.metrics import CalibrationError

RNG = np.random.default_rng(0)


def predictions(scores, labels, scale="logits") -> Predictions:
    scores = np.asarray(scores)
    return Predictions(
        scores=scores,
        scale=scale,
        class_names=tuple(map(str, range(scores.shape[1]))),
        labels=np.asarray(labels),
        names=np.arange(len(scores)).astype(str),
    )


def random_predictions(count=600, classes=4, dtype=np.float32) -> Predictions:
    scores = (3 * RNG.normal(size=(count, classes))).astype(dtype)
    return predictions(scores, RNG.integers(classes, size=count))


def curve(probability, outcome, bins=BINS):
    return equal_width(np.asarray(probability), outcome, convention="positive_class", bins=bins)


def error_by_definition(probability, outcome, bins, power=1):
    """Bin k of B, from 0, is [k/B, (k + 1)/B), and the last also holds 1."""
    total = 0.0
    for k in range(bins):
        inside = [
            (p, o)
            for p, o in zip(probability, outcome, strict=True)
            if k / bins <= p < (k + 1) / bins or (p == 1 and k == bins - 1)
        ]
        if inside:
            mean_p, mean_o = (sum(column) / len(inside) for column in zip(*inside, strict=True))
            total += len(inside) / len(probability) * abs(mean_o - mean_p) ** power
    return total ** (1 / power)


@pytest.mark.parametrize("bins", [1, 10, 15, 100])
def test_the_error_is_that_of_a_loop_over_bins(bins):
    probability = np.r_[RNG.random(300), np.arange(bins + 1) / bins]
    outcome = RNG.random(len(probability)) < 0.4
    found = curve(probability, outcome, bins)
    for norm, power in (("l1", 1), ("l2", 2)):
        expected = error_by_definition(probability.tolist(), outcome.tolist(), bins, power)
        assert found.error(norm) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bins", [10, 15, 100])
def test_a_probability_on_an_edge_begins_its_bin_and_one_ends_the_last(dtype, bins):
    """Products such as 0.29 · 100 would be rounded to below the edge."""
    edges = (np.arange(bins + 1) / bins).astype(dtype)
    assert curve(edges, np.zeros(bins + 1), bins).count.tolist() == [1] * (bins - 1) + [2]
    below = np.nextafter(edges[1:], dtype(0))
    assert curve(below, np.zeros(bins), bins).count.tolist() == [1] * bins


def test_a_certain_model_is_in_the_last_bin_and_an_impossible_class_in_the_first():
    found = curve([1.0, 1.0, 0.0], [1, 0, 0])
    assert (found.count[0], found.count[-1], found.count.sum()) == (1, 2, 3)
    assert found.error() == pytest.approx(1 / 3)
    assert found.as_json() == [
        {"from": 0.0, "to": 1 / 15, "count": 1, "mean_probability": 0.0, "mean_outcome": 0.0},
        {"from": 14 / 15, "to": 1.0, "count": 2, "mean_probability": 1.0, "mean_outcome": 0.5},
    ]


def test_the_metric_of_devices_agrees_where_no_confidence_is_on_an_edge():
    confidence = RNG.random(2000).astype(np.float32)
    correct = RNG.random(2000) < confidence
    device = CalibrationError.of(confidence, correct, np.ones(2000, bool))
    found = curve(confidence, correct)
    assert np.sum(device.correct) == found.outcome.sum()
    np.testing.assert_array_equal(device.correct, found.outcome)
    assert found.error() == pytest.approx(device.value(), abs=1e-6)


def test_the_metric_of_devices_has_an_edge_in_the_bin_below():
    edges = np.float32([1 / 15, 0.2, 0.6])
    device = CalibrationError.of(edges, np.ones(3, bool), np.ones(3, bool))
    assert np.flatnonzero(device.correct).tolist() == [0, 2, 8]
    assert np.flatnonzero(curve(edges, np.ones(3)).count).tolist() == [1, 3, 9]


def test_curves_of_parts_add_up_while_errors_of_parts_do_not():
    probability = RNG.random(5000)
    outcome = RNG.random(5000) < probability
    parts = [curve(probability[at : at + 50], outcome[at : at + 50]) for at in range(0, 5000, 50)]
    whole = curve(probability, outcome)
    joined = sum(parts[1:], parts[0])
    np.testing.assert_array_equal(joined.count, whole.count)
    assert joined.error() == pytest.approx(whole.error(), abs=1e-12)
    assert np.mean([part.error() for part in parts]) > 5 * whole.error()


def test_curves_of_other_bins_do_not_add_up():
    with pytest.raises(ValueError, match="of the same bins"):
        curve([0.5], [1]) + curve([0.5], [1], bins=10)


@pytest.mark.parametrize(("bins", "once_seen"), [(15, 0.0227), (100, 0.0414)])
def test_few_examples_bias_the_error_of_perfect_calibration_upward(bins, once_seen):
    """In a bin of n, |acc − conf| has the mean √(2 Σp(1 − p)/π)/n where n is large."""
    errors, expected = [], []
    for _ in range(100):
        probability = RNG.random(5000)
        found = curve(probability, RNG.random(5000) < probability, bins)
        errors.append(found.error())
        spread = curve(probability, probability * (1 - probability), bins).outcome
        expected.append(np.sqrt(2 * spread / np.pi).sum() / 5000)
    assert np.mean(errors) == pytest.approx(np.mean(expected), rel=0.03)
    assert abs(np.mean(errors) - once_seen) < 3 * np.std(errors)


def test_bins_of_equal_mass_hold_as_many_examples_each():
    probability = RNG.random(1500) ** 4
    found = equal_mass(probability, np.zeros(1500), convention="top_label")
    assert found.count.tolist() == [100] * BINS
    ordered = np.sort(probability)
    np.testing.assert_array_equal(found.edges[1:-1], ordered[100::100])
    assert found.error() == pytest.approx(probability.mean())
    parts = ordered.reshape(BINS, 100).mean(axis=1)
    assert found.error("l2") == pytest.approx(np.sqrt(np.mean(parts**2)))


def test_equal_probabilities_share_a_bin_of_equal_mass_in_any_order():
    probability = np.repeat([0.2, 0.7, 1.0], [50, 30, 20])
    outcome = np.arange(100) % 3 == 0
    found = equal_mass(probability, outcome, convention="top_label")
    assert sorted(found.count[found.count > 0].tolist()) == [20, 30, 50]
    order = RNG.permutation(100)
    again = equal_mass(probability[order], outcome[order], convention="top_label")
    assert again.error() == found.error()


def test_the_two_conventions_of_binary_probabilities_differ_and_are_named():
    probability = RNG.random(4000)
    target = RNG.random(4000) < 0.5 * probability + 0.25
    top = binary_calibration(probability, target, convention="top_label")
    positive = binary_calibration(probability, target, convention="positive_class")
    confidence = np.maximum(probability, 1 - probability)
    right = (probability >= 0.5) == target
    assert top.equal_width.error() == curve(confidence, right).error()
    assert positive.equal_width.error() == curve(probability, target).error()
    assert abs(top.equal_width.error() - positive.equal_width.error()) > 1e-3
    assert top.as_json()["convention"] == "top_label"
    assert positive.as_json()["convention"] == "positive_class"
    assert top.nll == positive.nll and top.accuracy == right.mean()


def test_a_binary_model_gets_the_same_figures_as_one_of_two_classes():
    probability, target = RNG.random(500), RNG.random(500) < 0.5
    both = predictions(np.c_[1 - probability, probability], target.astype(int), "probabilities")
    one = binary_calibration(probability, target, convention="top_label").as_json()
    two = top_label_calibration(both).as_json()
    for name in ("ece", "adaptive_ece", "ece_l2", "nll", "brier", "accuracy", "count"):
        assert one[name] == pytest.approx(two[name], abs=1e-9), name


def test_likelihood_and_brier_score_are_scikit_learns():
    found = random_predictions()
    figures = top_label_calibration(found)
    p = found.probabilities()
    assert figures.nll == pytest.approx(log_loss(found.labels, p, labels=range(4)), rel=1e-9)
    assert figures.brier == pytest.approx(
        brier_score_loss(found.labels, p, labels=range(4), scale_by_half=False), rel=1e-9
    )
    correct = p.argmax(axis=1) == found.labels
    assert figures.accuracy == correct.mean()
    assert figures.equal_width.error() == pytest.approx(
        error_by_definition(p.max(axis=1).tolist(), correct.tolist(), BINS), abs=1e-12
    )


def test_more_images_than_a_block_are_measured_as_one(monkeypatch):
    found = random_predictions(count=70)
    whole = top_label_calibration(found).as_json()
    monkeypatch.setattr("distill.analysis.calibration._ROWS", 8)
    assert top_label_calibration(found).as_json() == whole


def test_likelihood_stays_finite_where_a_probability_vanishes_in_float():
    found = top_label_calibration(predictions(np.array([[0.0, -2000.0]]), [1]))
    assert found.nll == 2000 and found.brier == pytest.approx(2)


def test_a_label_that_was_called_impossible_has_no_finite_likelihood():
    found = top_label_calibration(predictions(np.array([[1.0, 0.0]]), [1], "probabilities"))
    assert found.nll is None and found.as_json()["nll"] is None
    assert binary_calibration([0.0], [1], convention="positive_class").nll is None


def test_one_class_alone_is_certain_and_right():
    found = top_label_calibration(predictions(np.zeros((3, 1)), [0, 0, 0]))
    assert (found.accuracy, found.nll, found.brier) == (1, 0, 0)
    assert found.equal_width.error() == found.equal_mass.error() == 0


def test_images_without_a_label_do_not_count():
    found = random_predictions(count=50)
    scores = np.concatenate([found.scores, found.scores[:9]])
    more = predictions(scores, np.r_[found.labels, np.full(9, -1)])
    assert top_label_calibration(more).as_json() == top_label_calibration(found).as_json()
    with pytest.raises(UserError, match="none of 2 images has a label"):
        top_label_calibration(predictions(np.zeros((2, 2)), [-1, -1]))


@pytest.mark.parametrize("wrong", [math.nan, -0.01, 1.01, math.inf])
def test_what_is_no_probability_is_refused_with_its_place(wrong):
    for measure in (equal_width, equal_mass):
        with pytest.raises(UserError, match=r"probability 1 is .*; expected numbers from 0 to 1"):
            measure(np.array([0.5, wrong]), [1, 0], convention="top_label")
        with pytest.raises(UserError, match="outcome 0 is"):
            measure(np.array([0.5, 0.5]), [wrong, 0], convention="top_label")
    with pytest.raises(UserError, match="probability 1 is"):
        binary_calibration([0.5, wrong], [1, 0], convention="top_label")


def test_of_no_examples_nothing_is_said():
    assert curve(np.zeros(0), np.zeros(0)).error() is None
    with pytest.raises(UserError, match="no probabilities to divide"):
        equal_mass(np.zeros(0), np.zeros(0), convention="top_label")


def test_as_many_outcomes_as_probabilities_are_expected():
    with pytest.raises(UserError, match="2 probabilities and 1 outcomes"):
        curve([0.5, 0.5], [1])
