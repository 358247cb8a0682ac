"""Images of any size through windows of one size, inside a compiled function.

As `distill.analysis.windows` has it on the host: where windows overlap, what is predicted is
averaged.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import max_dim, min_dim

from distill.analysis.windows import windows_of

Patches = Callable[[jax.Array], jax.Array]
"""Maps windows [B, side, side, C] to what is predicted of their patches, [B, rows, columns, K]."""


def seen_whole(images: jax.Array, patches: Patches, side: int, stride: int) -> jax.Array:
    """What is predicted of each pixel, of images whose height and width may be symbolic.

    An image smaller than a window in height or width is first enlarged bilinearly, its ratio kept,
    until it is not, and what is predicted resized to its own size.

    Args:
      images: [B, height, width, C].
      patches: of a window.
      side: of the windows.
      stride: from one window to the next.

    Returns:
      float32 [B, height, width, K].
    """
    batch, height, width, channels = images.shape
    shorter = min_dim(height, width)
    wanted = max_dim(shorter, side)
    # Rounded; the maximum is for what checks shapes.
    tall, wide = (
        max_dim(side, (2 * length * wanted + shorter) // (2 * shorter))
        for length in (height, width)
    )
    sides = tall, wide
    images = resized(images, sides)
    rows, columns = (jnp.asarray(length, jnp.int32) for length in sides)
    down, across = (jnp.maximum(n - side + stride - 1, 0) // stride + 1 for n in (rows, columns))
    outputs = jax.eval_shape(patches, images[:, :side, :side]).shape[-1]

    def add(number: jax.Array, carry: Any) -> Any:
        total, times = carry
        top = jnp.minimum(number // across * stride, rows - side)
        left = jnp.minimum(number % across * stride, columns - side)
        zero = jnp.int32(0)
        start = zero, top, left, zero
        window = jax.lax.dynamic_slice(images, start, (batch, side, side, channels))
        found = resized(patches(window), (side, side))
        before = jax.lax.dynamic_slice(total, start, found.shape)
        total = jax.lax.dynamic_update_slice(total, before + found, start)
        seen = jax.lax.dynamic_slice(times, (top, left), (side, side))
        return total, jax.lax.dynamic_update_slice(times, seen + 1, (top, left))

    nothing = jnp.zeros((batch, *sides, outputs), jnp.float32), jnp.zeros(sides, jnp.float32)
    total, times = jax.lax.fori_loop(0, down * across, add, nothing)
    return resized(total / times[..., None], (height, width))


def seen_at_one_size(images: jax.Array, patches: Patches, side: int, stride: int) -> jax.Array:
    """As `seen_whole`, without loops, of images whose size is known and no less than a window.

    Args:
      images: [B, height, width, C]; B may be symbolic.
      patches: of windows.
      side: of the windows.
      stride: from one window to the next.
    """
    batch, height, width, channels = images.shape
    windows = windows_of((height, width), side, stride)
    # Image by image, the windows of each: one call, whose weights are written once.
    cut = [images[:, top : top + side, left : left + side] for top, left, _, _ in windows]
    found = patches(jnp.stack(cut, axis=1).reshape(-1, side, side, channels))
    found = found.reshape(batch, len(windows), *found.shape[1:])
    total: Any = 0.0
    times: Any = 0.0
    for number, (top, left, _, _) in enumerate(windows):
        large = resized(found[:, number], (side, side))
        around = (top, height - top - side), (left, width - left - side)
        total = total + jnp.pad(large, ((0, 0), *around, (0, 0)))
        times = times + jnp.pad(jnp.ones((side, side), jnp.float32), around)
    return total / times[..., None]


def resized(array: jax.Array, size: tuple[Any, Any]) -> jax.Array:
    """[B, *size, C] float32, as `distill.analysis.resizing.resize_bilinear` resizes.

    Args:
      array: [B, height, width, C].
      size: height and width to have, numbers or symbols.
    """
    array = array.astype(jnp.float32)
    for axis, new in zip((1, 2), size, strict=True):
        old = array.shape[axis]
        if old is new or (isinstance(old, int) and old == new):
            continue
        low, high, weight = _taps(old, new)
        weight = weight[:, None, None] if axis == 1 else weight[:, None]
        first, second = (jnp.take(array, at, axis=axis, mode="clip") for at in (low, high))
        array = first * (1 - weight) + second * weight
    return array


def _taps(old: Any, new: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """For each new place the two old ones around it, int32, and the second one's weight.

    In whole numbers, as what float32 rounds would move pixels.
    """
    length, count = jnp.asarray(old, jnp.int32), jnp.asarray(new, jnp.int32)
    # (i + 1/2)·old/new − 1/2, times 2·new.
    place = (2 * jnp.arange(new, dtype=jnp.int32) + 1) * length - count
    place = jnp.clip(place, 0, 2 * count * (length - 1))
    low = place // (2 * count)
    weight = (place - low * 2 * count).astype(jnp.float32) / (2 * count).astype(jnp.float32)
    return low, jnp.minimum(low + 1, length - 1), weight
