"""Cross-entropy of logits against distributions over classes."""

import jax
import jax.numpy as jnp

from distill.losses.term import Term


def sigmoid_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """−Σ_c [ y·log σ(z) + (1 − y)·log σ(−z) ] ("Scaling Vision Transformers", §3).

    Args:
      logits: [B, C].
      targets: [B, C], in [0, 1].
    """
    positive, negative = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    terms = weigh(targets, positive) + weigh(1.0 - targets, negative)
    return -jnp.sum(terms, axis=-1)


def softmax_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """−Σ_c y·log softmax(z).

    Args:
      logits: [B, C].
      targets: [B, C], distributions over the classes.
    """
    return -jnp.sum(weigh(targets, jax.nn.log_softmax(logits)), axis=-1)


def weigh(probability: jax.Array, logarithm: jax.Array) -> jax.Array:
    """p·log q, 0 where p is: there log q may be −inf."""
    return probability * jnp.where(probability != 0, logarithm, 0.0)


TERMS = (
    Term(
        name="labels",
        compares="labels",
        function=lambda targets, logits: softmax_cross_entropy(logits, targets),
        description="softmax cross-entropy against the labels, mixed as the images are",
    ),
)
