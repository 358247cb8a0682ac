"""What examples are to each other: distances between all pairs of a batch."""

import jax
import jax.numpy as jnp

from distill.losses.features import huber
from distill.losses.term import Term


def relational_distance(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """The mean over pairs i ≠ j of h( d_s(i, j)/μ_s − d_t(i, j)/μ_t ), a scalar.

    d is the Euclidean distance of two embeddings of a model, μ its mean over the pairs, and
    h Huber's loss with δ = 1 (RKD-D, arXiv 1904.05068, §3.2.1, with the mean over the pairs in
    place of their sum). Both models may have any width. Examples that are equal have no gradient.

    Args:
      teacher: [B, D_t].
      student: [B, D_s].

    Raises:
      ValueError: for a single example, which has no distance to another.
    """
    pairs = len(student) * (len(student) - 1)
    if not pairs:
        raise ValueError("a relational term needs a batch of at least 2 examples")
    difference = _relative_distances(student, pairs) - _relative_distances(teacher, pairs)
    return jnp.sum(huber(difference)) / pairs


def _relative_distances(x: jax.Array, pairs: int) -> jax.Array:
    """The distances of all pairs over their mean, [B, B]; 0 where all are 0."""
    # Distances do not depend on where the origin is, and products around 0 cancel less.
    x = x - jnp.mean(x, axis=0)
    products = jnp.matmul(x, x.T, precision="highest")
    norms = jnp.diagonal(products)
    squared = norms[:, None] + norms[None, :] - 2.0 * products
    apart = (squared > 0) & ~jnp.eye(len(x), dtype=bool)
    distances = jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)
    mean = jnp.sum(distances) / pairs
    return distances / jnp.where(mean > 0, mean, 1.0)


TERMS = (
    Term(
        name="embedding_rkd",
        compares="embedding",
        function=relational_distance,
        description="Huber's loss of the distances between all pairs of a batch (RKD-D)",
        projected=False,
        mean_over_examples=False,
    ),
)
