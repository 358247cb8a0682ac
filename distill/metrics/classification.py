"""Accuracy and calibration against labels, and agreement between two models."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from distill.metrics.calibration import CalibrationError
from distill.metrics.metric import Mean, Metric
from distill.nn import VisionNetwork


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the highest logit is the label's, bool [B]."""
    return jnp.argmax(logits, axis=-1) == labels


def top5_accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the label is among the five highest logits, bool [B]."""
    _, top = jax.lax.top_k(logits, min(5, logits.shape[-1]))
    return jnp.any(top == labels[:, None], axis=-1)


def agreement(student_logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """Whether both models prefer the same class, bool [B]."""
    return accuracy(student_logits, jnp.argmax(teacher_logits, axis=-1))


def top5_agreement(student_logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
    """Whether the teacher's preferred class is among the student's five highest, bool [B]."""
    return top5_accuracy(student_logits, jnp.argmax(teacher_logits, axis=-1))


def competing(logits: jax.Array, among: Sequence[int] | None) -> jax.Array:
    """The logits, [B, C], of the classes that compete, −∞ those of others.

    Args:
      logits: [B, C].
      among: the classes, by number; None is all.
    """
    return logits if among is None else jnp.where(_competes(logits, among), logits, -jnp.inf)


def _competes(logits: jax.Array, among: Sequence[int]) -> np.ndarray:
    competes = np.zeros(logits.shape[-1], bool)
    competes[list(among)] = True
    return competes


@functools.lru_cache(maxsize=16)
def classification_metrics(network: VisionNetwork, among: tuple[int, ...] | None = None):
    """Metrics of one model against labels: those of `label_metrics`.

    For equal arguments they are the same object, which is compiled once.
    """

    def per_example(params, frozen, batch):
        del frozen
        logits = network.apply(params, network.prepare(batch["image"])).logits
        return label_metrics(logits, batch["label"], among, where=batch["mask"])

    return per_example


def label_metrics(
    logits: jax.Array,
    labels: jax.Array,
    among: Sequence[int] | None = None,
    *,
    where: jax.Array,
) -> dict[str, Metric]:
    """Accuracy, top-5 accuracy, softmax cross-entropy in nats, and calibration error.

    Args:
      logits: [B, C].
      labels: int [B], in the numbering of the logits; an image that has none, or none of the
        classes that compete, is left out.
      among: the classes that compete, as if the model had no others; None is all.
      where: bool [B], whether an image counts.
    """
    logits, counts, requires = competing(logits.astype(jnp.float32), among), labels >= 0, "a label"
    if among is not None:
        counts &= jnp.asarray(_competes(logits, among))[labels]
        requires = "a label among the classes that compete"
    where = where & counts
    correct = accuracy(logits, labels)
    log_probabilities = jax.nn.log_softmax(logits)
    cross_entropy = -jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]
    confidence = jnp.max(jax.nn.softmax(logits), axis=-1)
    return {
        "accuracy": Mean.of(correct, where, requires),
        "top5_accuracy": Mean.of(top5_accuracy(logits, labels), where, requires),
        "cross_entropy": Mean.of(cross_entropy, where, requires),
        "calibration_error": CalibrationError.of(confidence, correct, where, requires),
    }
