"""Temperature scaling, against SciPy's minimisers and closed forms."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from distill.analysis.calibration import top_label_calibration
from distill.analysis.predictions import Predictions
from distill.analysis.temperature import fit_temperature, held_out
from distill.errors import UserError

RNG = np.random.default_rng(0)


def predictions(scores, labels, scale="logits") -> Predictions:
    return Predictions(
        scores=np.asarray(scores),
        scale=scale,
        class_names=tuple(map(str, range(np.shape(scores)[1]))),
        labels=np.asarray(labels),
        names=np.arange(len(scores)).astype(str),
    )


def drawn(factor: float, count=400, classes=5, dtype=np.float64) -> Predictions:
    """Logits of which softmax is right once they are divided by the factor."""
    logits = 2 * RNG.normal(size=(count, classes))
    labels = (logits + RNG.gumbel(size=logits.shape)).argmax(axis=1)
    return predictions((factor * logits).astype(dtype), labels)


def nll(found: Predictions, beta: float) -> float:
    logs = log_softmax(beta * found.scores.astype(np.float64), axis=1)
    return -logs[np.arange(len(found)), found.labels].mean()


@pytest.mark.parametrize("factor", [1e-3, 0.3, 1.0, 4.0, 1e4])
def test_the_temperature_is_where_scipy_finds_the_least_cross_entropy(factor):
    found = drawn(factor)
    fitted = fit_temperature(found)
    best = minimize_scalar(
        lambda log: nll(found, np.exp(log)),
        bracket=(-np.log(factor) - 1, -np.log(factor) + 1),
        options={"xtol": 1e-10},
    )
    assert fitted.value == pytest.approx(np.exp(-best.x), rel=1e-6)
    assert fitted.nll_after <= best.fun + 1e-12
    assert fitted.nll_before == pytest.approx(nll(found, 1.0)) and fitted.count == 400


def test_the_slope_is_zero_at_the_temperature_to_the_last_bits():
    found = drawn(3.0)
    beta = 1 / fit_temperature(found).value
    p = np.exp(log_softmax(beta * found.scores, axis=1))
    slope = np.sum(p * found.scores, axis=1) - found.scores[np.arange(400), found.labels]
    assert abs(slope.mean()) < 1e-13


def test_of_two_logits_the_temperature_is_in_closed_form():
    """A model that is right in a of n cases by a margin m: σ(m/T) = a/n."""
    scores = np.tile([0.0, 2.0], (10, 1))
    fitted = fit_temperature(predictions(scores, [1] * 8 + [0] * 2))
    assert fitted.value == pytest.approx(2 / np.log(8 / 2), rel=1e-12)


def test_scaled_predictions_choose_the_same_classes_with_other_confidence():
    found = drawn(5.0, dtype=np.float32)
    fitted = fit_temperature(found)
    scaled = fitted.apply(found)
    assert (scaled.scores.argmax(axis=1) == found.scores.argmax(axis=1)).all()
    assert scaled.probabilities().max(axis=1).mean() < found.probabilities().max(axis=1).mean()
    assert fit_temperature(scaled).value == pytest.approx(1, rel=1e-9)


def test_probabilities_are_scaled_as_the_logits_they_come_of():
    logits = drawn(2.0)
    scores = logits.probabilities()
    same = dataclasses.replace(logits, scores=scores, scale="probabilities")
    assert fit_temperature(same).value == pytest.approx(fit_temperature(logits).value, rel=1e-9)
    np.testing.assert_allclose(
        fit_temperature(same).apply(same).probabilities(),
        fit_temperature(logits).apply(logits).probabilities(),
        rtol=1e-7,
        atol=1e-12,
    )


def test_a_probability_of_zero_is_scaled():
    scores = np.array([[1.0, 0.0], [0.25, 0.75], [0.75, 0.25]])
    fitted = fit_temperature(predictions(scores, [0, 1, 1], "probabilities"))
    assert np.isfinite([fitted.value, fitted.nll_before, fitted.nll_after]).all()


def test_images_without_a_label_are_left_out():
    found = drawn(2.0)
    labels = found.labels.copy()
    labels[100:] = -1
    some = fit_temperature(dataclasses.replace(found, labels=labels))
    assert some == fit_temperature(found.where(np.arange(100)))


def test_scores_that_say_nothing_or_the_opposite_have_no_temperature():
    for scores in (np.zeros((4, 2)), [[1.0, 0.0]] * 4):
        with pytest.raises(UserError, match="say nothing about their labels"):
            fit_temperature(predictions(np.array(scores), [1, 1, 1, 0]))


def test_scores_that_are_always_right_have_no_temperature():
    with pytest.raises(UserError, match="all 3 images have the highest score"):
        fit_temperature(predictions(np.eye(3), [0, 1, 2]))


def test_images_are_held_out_by_name_whatever_stands_beside_them():
    names = np.array([f"{number}.jpg" for number in range(5000)])
    chosen = held_out(names, 0.2)
    assert 0.18 < chosen.mean() < 0.22
    order = RNG.permutation(5000)
    np.testing.assert_array_equal(held_out(names[order], 0.2), chosen[order])
    np.testing.assert_array_equal(held_out(names[:7], 0.2), chosen[:7])
    assert not held_out(names, 0.0).any() and held_out(names, 1.0).all()


def test_a_temperature_mends_the_calibration_of_images_that_it_was_not_fitted_to():
    found = drawn(4.0, count=3000)
    fitted = held_out(found.names, 0.2)
    temperature, scored = fit_temperature(found.where(fitted)), found.where(~fitted)
    assert temperature.value == pytest.approx(4, rel=0.2)
    before = top_label_calibration(scored)
    after = top_label_calibration(temperature.apply(scored))
    assert after.accuracy == before.accuracy and after.nll < before.nll
    assert after.equal_width.error() < 0.3 * before.equal_width.error()
