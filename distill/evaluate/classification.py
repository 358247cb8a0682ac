"""Accuracy and calibration against labels, and agreement between two models."""

import jax
import jax.numpy as jnp
import numpy as np

from distill.nn import Network

CALIBRATION_BINS = 15


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1 where the highest logit is the label's, [B]."""
    return (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)


def top5_accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1 where the label is among the five highest logits, [B]."""
    _, top = jax.lax.top_k(logits, min(5, logits.shape[-1]))
    return jnp.any(top == labels[:, None], axis=-1).astype(jnp.float32)


def agreement(student_logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """1 where both models prefer the same class, [B]."""
    return accuracy(student_logits, jnp.argmax(teacher_logits, axis=-1))


def top5_agreement(student_logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """1 where the teacher's preferred class is among the student's five highest, [B]."""
    return top5_accuracy(student_logits, jnp.argmax(teacher_logits, axis=-1))


def calibration_gaps(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Accuracy minus confidence, in the bin that the confidence falls into, [B, 15].

    The confidence is the top softmax probability. Bins have equal width; bin m of M holds
    confidences in ((m − 1)/M, m/M]. The other bins are 0, so that the mean over examples holds each
    bin's share of them times the difference between its accuracy and its confidence.
    """
    confidence = jnp.max(jax.nn.softmax(logits), axis=-1)
    bins = jnp.ceil(confidence * CALIBRATION_BINS).astype(jnp.int32) - 1
    gap = accuracy(logits, labels) - confidence
    return gap[:, None] * jax.nn.one_hot(jnp.minimum(bins, CALIBRATION_BINS - 1), CALIBRATION_BINS)


def expected_calibration_error(gaps: np.ndarray) -> float:
    """The expected calibration error (arXiv 1706.04599, §2) from the mean of `calibration_gaps`."""
    return float(np.sum(np.abs(gaps)))


REDUCTIONS = {"calibration_error": expected_calibration_error}
"""Metrics that are a vector for each example, and how the mean of it becomes their value."""


def classification_metrics(network: Network):
    """Per-example metrics of one model: those of `label_metrics`."""

    def per_example(params, frozen, batch):
        del frozen
        logits = network.apply(params, network.prepare(batch["image"])).logits
        return label_metrics(logits, batch["label"])

    return per_example


def label_metrics(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """Accuracy, top-5 accuracy and softmax cross-entropy, each [B]; calibration gaps, [B, 15]."""
    log_probabilities = jax.nn.log_softmax(logits)
    return {
        "accuracy": accuracy(logits, labels),
        "top5_accuracy": top5_accuracy(logits, labels),
        "cross_entropy": -jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0],
        "calibration_error": calibration_gaps(logits, labels),
    }
