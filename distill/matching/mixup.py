"""Mixup: one partner and one coefficient for every model that sees the batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Mixed(NamedTuple):
    """Mixed images and what mixed them."""

    images: jax.Array
    """[B, height, width, C] float32, in the range of the images that came in."""
    weights: jax.Array
    """λ, [B] float32 in [1/2, 1]: the share of each image itself; its partner has 1 − λ."""


def mixup(key: jax.Array, images: jax.Array, alpha: float, *, per_example: bool = False) -> Mixed:
    """x ← λ·x + (1 − λ)·x', with λ ~ Beta(α, α), λ ← max(λ, 1 − λ), x' the batch rolled by one.

    "A good teacher is patient and consistent" (arXiv 2106.05237, §3) after arXiv 1710.09412.

    Args:
      key: of this batch.
      images: [B, height, width, C].
      alpha: both parameters of the Beta distribution; 0 leaves the images as they are.
      per_example: draw λ for each image instead of once for the batch.
    """
    batch = images.shape[0]
    images = images.astype(jnp.float32)
    if not alpha:
        return Mixed(images, jnp.ones((batch,), jnp.float32))
    drawn = jax.random.beta(key, alpha, alpha, (batch if per_example else 1,))
    weights = jnp.broadcast_to(jnp.maximum(drawn, 1.0 - drawn), (batch,))
    w = weights[:, None, None, None]
    return Mixed(w * images + (1.0 - w) * roll(images), weights)


def mix_labels(labels: jax.Array, weights: jax.Array, classes: int) -> jax.Array:
    """The label distribution of mixed images, [B, C], from labels [B] and `Mixed.weights`."""
    one_hot = jax.nn.one_hot(labels, classes)
    return weights[:, None] * one_hot + (1.0 - weights[:, None]) * roll(one_hot)


def roll(x: jax.Array) -> jax.Array:
    """Each example's partner: the one before it in the batch."""
    return jnp.roll(x, 1, axis=0)
