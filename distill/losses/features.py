"""Distances between features: embeddings of images, or tokens of patches."""

import jax
import jax.numpy as jnp

from distill.losses.term import Term

# Added to squared norms, so that a feature of zeros has a gradient.
_SMALLEST_NORM = 1e-12


def mean_squared_error(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """The mean of squared differences, of features [B, …, D]."""
    return jnp.mean(jnp.square(student - teacher), axis=tuple(range(1, student.ndim)))


def cosine_distance(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """1 − cos of the angle between features [B, …, D]; of several vectors, the mean."""
    cosine = jnp.sum(_unit(teacher) * _unit(student), axis=-1)
    return 1.0 - jnp.mean(cosine, axis=tuple(range(1, cosine.ndim)))


def _unit(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + _SMALLEST_NORM)


TERMS = (
    Term(
        name="embedding_cosine",
        compares="embedding",
        function=cosine_distance,
        description="1 − cos of the angle between embeddings",
    ),
    Term(
        name="embedding_mse",
        compares="embedding",
        function=mean_squared_error,
        description="mean squared difference of embeddings",
    ),
    Term(
        name="tokens_cosine",
        compares="tokens",
        function=cosine_distance,
        description="1 − cos of the angle between patch tokens, averaged over the patches",
    ),
    Term(
        name="tokens_mse",
        compares="tokens",
        function=mean_squared_error,
        description="mean squared difference of patch tokens",
    ),
)
