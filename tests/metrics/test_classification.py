"""Accuracy and calibration against float64 references; padding does not count."""

import numpy as np
import pytest

from distill.evaluate import Evaluator
from distill.metrics import label_metrics, top5_agreement

CLASSES, BATCH = 7, 16


def calibration_error(probabilities, labels, bins=15):
    """Σ |B_m|/n · |acc(B_m) − conf(B_m)| over bins ((m − 1)/M, m/M] (arXiv 1706.04599, eq. 3)."""
    confidence, predicted = probabilities.max(axis=-1), probabilities.argmax(axis=-1)
    error = 0.0
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        if inside.any():
            gap = np.mean(predicted[inside] == labels[inside]) - np.mean(confidence[inside])
            error += np.mean(inside) * abs(gap)
    return error


def softmax(logits):
    exponentials = np.exp(logits.astype(np.float64))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def evaluate(logits, labels, among=None):
    """The metrics of given logits, in batches whose padding would spoil every one of them."""
    count = -(-len(labels) // BATCH) * BATCH
    batches = []
    for start in range(0, count, BATCH):
        part = slice(start, start + BATCH)
        here = len(labels[part])
        batches.append(
            {
                "logits": np.concatenate([logits[part], np.full((BATCH - here, CLASSES), 3.0)]),
                "label": np.concatenate([labels[part], np.zeros(BATCH - here, np.int32)]),
                "mask": np.arange(BATCH) < here,
            }
        )

    def per_example(params, frozen, batch):
        return label_metrics(batch["logits"], batch["label"], among, where=batch["mask"])

    return Evaluator("test", batches, per_example)({}, None)


@pytest.fixture
def examples():
    """Logits from unsure to sure, and labels that follow them half of the time."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((90, CLASSES)) * rng.uniform(0.1, 6.0, (90, 1))
    guesses = rng.integers(0, CLASSES, 90)
    labels = np.where(rng.random(90) < 0.5, logits.argmax(axis=-1), guesses)
    return logits.astype(np.float32), labels.astype(np.int32)


def test_metrics_are_those_of_the_reference(examples):
    logits, labels = examples
    probabilities = softmax(logits)
    order = np.argsort(-logits, axis=-1)
    expected = {
        "test/accuracy": np.mean(order[:, 0] == labels),
        "test/top5_accuracy": np.mean((order[:, :5] == labels[:, None]).any(axis=-1)),
        "test/cross_entropy": -np.mean(np.log(probabilities[np.arange(90), labels])),
        "test/calibration_error": calibration_error(probabilities, labels),
    }
    found = evaluate(logits, labels)
    assert found == pytest.approx(expected, rel=1e-5)
    assert all(isinstance(value, float) for value in found.values())
    # Neither calibrated nor as wrong as can be, or the comparison would show little.
    assert 0.05 < expected["test/calibration_error"] < 0.6


def test_a_calibrated_model_has_no_error():
    # 0.8 for one of two classes, which is right four times in five.
    logits = np.full((40, CLASSES), -60.0, np.float32)
    logits[:, 0], logits[:, 1] = np.log(0.8), np.log(0.2)
    labels = (np.arange(40) % 5 == 0).astype(np.int32)
    assert evaluate(logits, labels)["test/calibration_error"] == pytest.approx(0, abs=1e-6)


def test_errors_of_opposite_sign_do_not_cancel():
    """Half as sure as right and half as right as sure: 0 on average, and yet badly calibrated."""
    logits = np.full((40, CLASSES), -60.0, np.float32)
    logits[:20, :2] = np.log([0.6, 0.4])  # always right
    logits[20:, :2] = np.log([0.9, 0.1])  # right half of the time
    labels = np.r_[np.zeros(20), np.arange(20) % 2].astype(np.int32)
    expected = 0.5 * (1 - 0.6) + 0.5 * (0.9 - 0.5)
    assert evaluate(logits, labels)["test/calibration_error"] == pytest.approx(expected, abs=1e-5)


def test_certainty_belongs_to_the_last_bin():
    logits = np.zeros((10, CLASSES), np.float32)
    logits[:, 2] = 100.0
    labels = np.where(np.arange(10) < 7, 2, 3).astype(np.int32)
    assert evaluate(logits, labels)["test/calibration_error"] == pytest.approx(0.3, abs=1e-6)


@pytest.mark.parametrize("classes", [CLASSES, 5, 3])
def test_the_teachers_choice_is_among_the_students_five_highest(classes):
    rng = np.random.default_rng(2)
    student, teacher = rng.standard_normal((2, 200, classes)).astype(np.float32)
    higher = (student > np.take_along_axis(student, teacher.argmax(-1)[:, None], -1)).sum(axis=-1)
    found = np.asarray(top5_agreement(student, teacher))
    np.testing.assert_array_equal(found, higher < 5)
    assert np.any(found == 0) == (classes > 5)
