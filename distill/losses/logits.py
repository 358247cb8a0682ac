"""Distances between vectors of logits."""

import jax
import jax.numpy as jnp

from distill.losses.term import Term


def squared_distance(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """‖z_s − z_t‖², of vectors [B, D] ("Do Deep Nets Really Need to be Deep?", arXiv 1312.6184)."""
    return jnp.sum(jnp.square(student - teacher), axis=-1)


def euclidean_distance(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """‖z_s − z_t‖, of vectors [B, D]; where both are equal, its gradient is 0."""
    squared = squared_distance(teacher, student)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


TERMS = (
    Term(
        name="logits_l2",
        compares="logits",
        function=squared_distance,
        description="‖z_s − z_t‖²",
    ),
    Term(
        name="logits_euclidean",
        compares="logits",
        function=euclidean_distance,
        description="‖z_s − z_t‖",
    ),
)
