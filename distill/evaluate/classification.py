"""Accuracy against labels, and agreement between two models."""

import jax
import jax.numpy as jnp

from distill.nn import Network


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


def classification_metrics(network: Network):
    """Per-example metrics of one model: accuracy, top-5 accuracy and softmax cross-entropy."""

    def per_example(params, frozen, batch):
        del frozen
        logits = network.apply(params, network.prepare(batch["image"])).logits
        return label_metrics(logits, batch["label"])

    return per_example


def label_metrics(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """Accuracy, top-5 accuracy and softmax cross-entropy, each [B]."""
    log_probabilities = jax.nn.log_softmax(logits)
    return {
        "accuracy": accuracy(logits, labels),
        "top5_accuracy": top5_accuracy(logits, labels),
        "cross_entropy": -jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0],
    }
