"""From pixels to tokens: patch embedding and position embeddings."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from distill.nn.layers import Linear

Grid = tuple[int, int]


def patch_grid(image_size: tuple[int, int], patch_size: int) -> Grid:
    """Rows and columns of patches in an image of `image_size` (height, width).

    Raises:
      ValueError: if a side is no multiple of the patch, or nothing.
    """
    height, width = image_size
    if min(image_size) < 1 or height % patch_size or width % patch_size:
        down = [max(patch_size, side // patch_size * patch_size) for side in image_size]
        up = [max(patch_size, -(-side // patch_size) * patch_size) for side in image_size]
        near = dict.fromkeys(f"{rows}×{columns}" for rows, columns in (down, up))
        raise ValueError(
            f"image size {height}×{width} is not divisible by patch size {patch_size}; "
            f"use {' or '.join(near)}, or another patch size"
        )
    return height // patch_size, width // patch_size


class PatchEmbed(nnx.Module):
    """Convolution with stride = kernel = patch, with bias, as one matrix product."""

    def __init__(
        self, patch_size: int, channels: int, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.patch_size = patch_size
        self.linear = Linear(
            {"patch_height": patch_size, "patch_width": patch_size, "channels": channels},
            {"embed": width},
            kernel_init=jax.nn.initializers.lecun_normal(),
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images [B, height, width, C] to [B, rows, columns, D]."""
        batch, height, width, channels = images.shape
        rows, columns = patch_grid((height, width), self.patch_size)
        patch = self.patch_size
        patches = images.reshape(batch, rows, patch, columns, patch, channels)
        return self.linear(patches.transpose(0, 1, 3, 2, 4, 5))


def sincos2d(grid: Grid, width: int, temperature: float = 10_000.0) -> np.ndarray:
    """Fixed 2-D sine-cosine position embedding, [rows, columns, width], float32.

    The MoCo v3 form (arXiv 2104.02057) that "Better plain ViT baselines" (arXiv 2205.01580) uses.

    Raises:
      ValueError: if `width` is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"sincos2d needs a width divisible by 4, not {width}")
    y, x = np.mgrid[: grid[0], : grid[1]]
    omega = temperature ** -(np.arange(width // 4) / max(width // 4 - 1, 1))
    y, x = y[..., None] * omega, x[..., None] * omega
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], -1).astype(np.float32)


class Rotation(NamedTuple):
    """By how much queries and keys are turned; the tokens in front of the patches are not."""

    cos: jax.Array
    """[patches, head_dim] float32."""
    sin: jax.Array
    """[patches, head_dim] float32."""


def rotary2d(grid: Grid, head_dim: int, base: float = 100.0) -> Rotation:
    """The rotary position embedding of DINOv3 (arXiv 2508.10104): centres of patches in [−1, 1]².

    A quarter of the head's dimensions turns with each of head_dim/4 frequencies, for rows and for
    columns, and both are repeated for the second half of the dimensions.

    Raises:
      ValueError: if `head_dim` is not a multiple of 4.
    """
    if head_dim % 4:
        raise ValueError(f"rotary needs a head of 4·n dimensions, not {head_dim}")
    centres = [2 * (np.arange(size) + 0.5) / size - 1 for size in grid]
    y, x = np.meshgrid(*centres, indexing="ij")
    frequencies = base ** -(np.arange(head_dim // 4) * 4 / head_dim)
    angles = 2 * np.pi * np.stack([y, x], -1)[..., None] * frequencies
    angles = np.tile(angles.reshape(-1, head_dim // 2), 2)
    return Rotation(*(jnp.asarray(f(angles), jnp.float32) for f in (np.cos, np.sin)))


def rotate(x: jax.Array, rotation: Rotation) -> jax.Array:
    """Turns queries or keys [B, T, H, K], whose last tokens are the patches of `rotation`."""
    front, patches = jnp.split(x, [x.shape[1] - len(rotation.cos)], axis=1)
    cos, sin = (part[:, None].astype(x.dtype) for part in rotation)
    first, second = jnp.split(patches, 2, axis=-1)
    turned = patches * cos + jnp.concatenate([-second, first], -1) * sin
    return jnp.concatenate([front, turned], axis=1)


def resize_grid(embedding: jax.Array, grid: Grid) -> jax.Array:
    """Interpolates a position embedding [rows, columns, D] bicubically to another `grid`.

    Learned embeddings of neighbours are nearly independent, and bilinear interpolation shrinks
    them where it averages them; docs/pretraining.md has the difference.
    """
    if embedding.shape[:2] == grid:
        return embedding
    return jax.image.resize(embedding, (*grid, embedding.shape[-1]), "cubic", antialias=True)


def resample_tokens(tokens: jax.Array, grid: Grid, to: Grid) -> jax.Array:
    """Patch tokens [B, …, rows·columns, D] of one grid on another, bilinearly, antialiased."""
    if grid == to:
        return tokens
    *batch, _, width = tokens.shape
    patches = tokens.reshape(*batch, *grid, width)
    resized = jax.image.resize(patches, (*batch, *to, width), "bilinear", antialias=True)
    return resized.reshape(*batch, -1, width)


class PositionEmbedding(nnx.Module):
    """Added after the patch embedding: learned, drawn from N(0, 1/√D), or fixed sincos2d.

    "rotary" adds nothing here: attention turns queries and keys instead (`rotary2d`). An image
    whose patch grid differs from `grid` gets the embedding interpolated in 2-D.
    """

    def __init__(self, kind: str, grid: Grid, width: int, *, rngs: nnx.Rngs):
        self.kind = kind
        self.width = width
        normal = jax.nn.initializers.normal(stddev=width**-0.5)
        self.table = (
            nnx.Param(
                normal(rngs.params(), (*grid, width), jnp.float32),
                axes=("rows", "columns", "embed"),
            )
            if kind == "learned"
            else None
        )

    def __call__(self, patches: jax.Array) -> jax.Array:
        """Adds positions to patches [B, rows, columns, D]."""
        _, rows, columns, _ = patches.shape
        grid = rows, columns
        if self.kind == "rotary":
            return patches
        if self.table is None:
            table = jnp.asarray(sincos2d(grid, self.width))
        else:
            table = resize_grid(self.table[...], grid)
        return patches + table.astype(patches.dtype)
