"""What the patches of an image are to each other: cosines of all pairs of its tokens."""

import jax
import jax.numpy as jnp

from distill.losses.features import unit
from distill.losses.term import Term


def gram_distance(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """The mean over pairs of patches (i, j) of ( cos_s(i, j) − cos_t(i, j) )², for each image.

    ‖X_s·X_sᵀ − X_t·X_tᵀ‖² of tokens of length 1 (DINOv3's Gram anchoring, arXiv 2508.10104, §4.2),
    with the mean over the entries in place of their sum. Both models may have any width.

    Args:
      teacher: [B, …, T, D_t].
      student: [B, …, T, D_s].
    """
    difference = _cosines(student) - _cosines(teacher)
    return jnp.mean(jnp.square(difference), axis=tuple(range(1, difference.ndim)))


def _cosines(tokens: jax.Array) -> jax.Array:
    """[B, …, T, T]."""
    x = unit(tokens)
    return jnp.matmul(x, jnp.swapaxes(x, -1, -2), precision="highest")


TERMS = (
    Term(
        name="tokens_gram",
        compares="tokens",
        function=gram_distance,
        description="mean squared difference of the cosines of all pairs of an image's tokens",
        projected=False,
    ),
    Term(
        name="layers_gram",
        compares="layers",
        function=gram_distance,
        description="mean squared difference of the cosines of all pairs of an image's tokens, of "
        "layers",
        projected=False,
    ),
)
