"""Distances between features: embeddings of images, or tokens of patches after some layers."""

import jax
import jax.numpy as jnp

from distill.losses.term import Term

# Added to squared norms, so that a feature of zeros has a gradient.
_SMALLEST_NORM = 1e-12


def mean_squared_error(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """The mean of squared differences, of features [B, …, D]."""
    return jnp.mean(jnp.square(student - teacher), axis=tuple(range(1, student.ndim)))


def smooth_l1(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """The mean of `huber` of the differences, of features [B, …, D].

    AM-RADIO adds a tenth of it to nine tenths of the cosine's distance, for what a cosine does not
    see: how large features are (arXiv 2312.06709, §3).
    """
    return jnp.mean(huber(student - teacher), axis=tuple(range(1, student.ndim)))


def huber(difference: jax.Array) -> jax.Array:
    """d²/2 where |d| < 1, else |d| − 1/2: β = 1, as in Fast R-CNN (arXiv 1504.08083, eq. 3)."""
    size = jnp.abs(difference)
    return jnp.where(size < 1.0, 0.5 * jnp.square(difference), size - 0.5)


def cosine_distance(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """1 − cos of the angle between features [B, …, D]; of several vectors, the mean."""
    cosine = jnp.sum(unit(teacher) * unit(student), axis=-1)
    return 1.0 - jnp.mean(cosine, axis=tuple(range(1, cosine.ndim)))


def unit(x: jax.Array) -> jax.Array:
    """Features [..., D] over their lengths; of zeros, zeros."""
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
        name="embedding_smooth_l1",
        compares="embedding",
        function=smooth_l1,
        description="mean of Huber's loss (β = 1) of the differences of embeddings",
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
    Term(
        name="tokens_smooth_l1",
        compares="tokens",
        function=smooth_l1,
        description="mean of Huber's loss (β = 1) of the differences of patch tokens",
    ),
    Term(
        name="layers_cosine",
        compares="layers",
        function=cosine_distance,
        description="1 − cos of the angle between patch tokens of layers, averaged over both",
    ),
    Term(
        name="layers_mse",
        compares="layers",
        function=mean_squared_error,
        description="mean squared difference of patch tokens of layers",
    ),
    Term(
        name="layers_smooth_l1",
        compares="layers",
        function=smooth_l1,
        description="mean of Huber's loss (β = 1) of the differences of patch tokens of layers",
    ),
)
