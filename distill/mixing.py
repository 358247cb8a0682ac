"""Mixup and CutMix: one partner and one coefficient or box for every model that sees the batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Mixed(NamedTuple):
    """Mixed images and what mixed them."""

    images: jax.Array
    """[B, height, width, C] float32, in the range of the images that came in."""
    weights: jax.Array
    """λ, [B] float32: the share of each image itself, in [1/2, 1] after mixup and [0, 1] after
    CutMix; its partner has 1 − λ."""


def mixup(key: jax.Array, images: jax.Array, alpha: float, *, per_example: bool = False) -> Mixed:
    """x ← λ·x + (1 − λ)·x', with λ ~ Beta(α, α), λ ← max(λ, 1 − λ), x' the batch rolled by one.

    "A good teacher is patient and consistent" (arXiv 2106.05237, §3) after arXiv 1710.09412.

    Args:
      key: of this batch.
      images: [B, height, width, C].
      alpha: both parameters of the Beta distribution; 0 leaves the images as they are.
      per_example: draw λ for each image instead of once for the batch.
    """
    return mix(key, images, mixup=alpha, cutmix=0.0, per_example=per_example)


def cutmix(key: jax.Array, images: jax.Array, alpha: float, *, per_example: bool = False) -> Mixed:
    """Pastes a box of the image before it in the batch into each image (arXiv 1905.04899, §3.1).

    As in its reference implementation, the box's sides are √(1 − λ) of the image's, rounded down
    to an even number of pixels, with λ ~ Beta(α, α); its centre is a random pixel; and what falls
    outside is cut off. The weights are the shares of pixels that are then left.

    Args:
      key: of this batch.
      images: [B, height, width, C].
      alpha: both parameters of the Beta distribution; 0 leaves the images as they are.
      per_example: draw a box for each image instead of once for the batch.
    """
    return mix(key, images, mixup=0.0, cutmix=alpha, per_example=per_example)


def mix(
    key: jax.Array, images: jax.Array, *, mixup: float, cutmix: float, per_example: bool = False
) -> Mixed:
    """Mixup or CutMix; where both are on, each batch gets one of them with equal chance.

    Args:
      key: of this batch.
      images: [B, height, width, C].
      mixup: α of mixup; 0 is off.
      cutmix: α of CutMix; 0 is off.
      per_example: draw λ or a box for each image instead of once for the batch.
    """
    batch, height, width, _ = images.shape
    images = images.astype(jnp.float32)
    if not mixup and not cutmix:
        return Mixed(images, jnp.ones((batch,), jnp.float32))
    draws = batch if per_example else 1
    if not cutmix:
        shares = _folded(key, mixup, draws)
    elif not mixup:
        shares = _outside_box(key, cutmix, draws, height, width)
    else:
        choose, key = jax.random.split(key)
        shares = jnp.where(
            jax.random.bernoulli(choose, jnp.float32(0.5)),
            _outside_box(key, cutmix, draws, height, width),
            _folded(key, mixup, draws),
        )
    weights = jnp.broadcast_to(jnp.mean(shares, axis=(1, 2, 3)), (batch,))
    return Mixed(shares * images + (1.0 - shares) * roll(images), weights)


def _folded(key: jax.Array, alpha: float, draws: int) -> jax.Array:
    """Mixup's λ, [draws, 1, 1, 1]: the share of an image in each of its pixels."""
    drawn = jax.random.beta(key, alpha, alpha, (draws,), jnp.float32)
    return jnp.maximum(drawn, 1.0 - drawn)[:, None, None, None]


def _outside_box(key: jax.Array, alpha: float, draws: int, height: int, width: int) -> jax.Array:
    """CutMix's shares, [draws, height, width, 1]: 0 for the pixels of a box, 1 for all others."""
    size, down, across = jax.random.split(key, 3)
    side = jnp.sqrt(1.0 - jax.random.beta(size, alpha, alpha, (draws,), jnp.float32))
    rows = _stretch(down, side, height)[:, :, None]
    columns = _stretch(across, side, width)[:, None, :]
    return 1.0 - (rows & columns)[..., None].astype(jnp.float32)


def _stretch(key: jax.Array, share: jax.Array, length: int) -> jax.Array:
    """Which pixels of a line lie in a stretch of about `share` of it, [draws, length] bool."""
    half = jnp.floor(length * share).astype(jnp.int32) // 2
    centre = jax.random.randint(key, share.shape, 0, length, jnp.int32)
    place = jnp.arange(length)
    return (place >= (centre - half)[:, None]) & (place < (centre + half)[:, None])


def mix_labels(labels: jax.Array, weights: jax.Array, classes: int) -> jax.Array:
    """The label distribution of mixed images, [B, C], from labels [B] and `Mixed.weights`."""
    return mix_targets(jax.nn.one_hot(labels, classes, dtype=jnp.float32), weights)


def mix_targets(targets: jax.Array, weights: jax.Array) -> jax.Array:
    """The targets of mixed images, [B, C], from their own, [B, C], and `Mixed.weights`."""
    return weights[:, None] * targets + (1.0 - weights[:, None]) * roll(targets)


def roll(x: jax.Array) -> jax.Array:
    """Each example's partner: the one before it in the batch."""
    return jnp.roll(x, 1, axis=0)
