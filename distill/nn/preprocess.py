"""The device side of preprocessing: from a batch of views to what one model is fed."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def prepare_images(
    images: jax.Array,
    size: tuple[int, int],
    mean: Sequence[float] = (0.5,),
    std: Sequence[float] = (0.5,),
) -> jax.Array:
    """Resizes views to a model's resolution and normalises them, by default to [−1, 1].

    Args:
      images: [B, height, width, C], values in [0, 255], uint8 or float (after mixup).
      size: (height, width) of the model's input; bilinear, antialiased when shrinking.
      mean: of pixel values in [0, 1], for all channels or for each.
      std: likewise.

    Returns:
      [B, *size, C] float32, (x/255 − mean)/std.
    """
    images = images.astype(jnp.float32)
    if images.shape[1:3] != tuple(size):
        shape = (images.shape[0], *size, images.shape[-1])
        images = jax.image.resize(images, shape, "bilinear", antialias=True)
    # By default x/127.5 − 1, which float32 has exactly at both ends.
    scale, shift = np.multiply(255.0, std), np.divide(mean, std)
    return images / _float32(scale) - _float32(shift)


def _float32(constant: np.ndarray) -> np.ndarray:
    """[C], or a scalar where all channels have the same."""
    return np.squeeze(constant).astype(np.float32)
