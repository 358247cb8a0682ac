"""The device side of preprocessing: from a batch of views to what one model is fed."""

import jax
import jax.numpy as jnp


def prepare_images(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Resizes views to a model's resolution and scales them to [−1, 1].

    Args:
      images: [B, height, width, C], values in [0, 255], uint8 or float (after mixup).
      size: (height, width) of the model's input; bilinear, antialiased when shrinking.

    Returns:
      [B, *size, C] float32.
    """
    images = images.astype(jnp.float32)
    if images.shape[1:3] != tuple(size):
        shape = (images.shape[0], *size, images.shape[-1])
        images = jax.image.resize(images, shape, "bilinear", antialias=True)
    return images / 127.5 - 1.0
