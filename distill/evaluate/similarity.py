"""How alike two models' features are: linear CKA, gathered over batches on the device."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Features that vary by less than this share of their mean are constant as far as float32 can tell.
_RESOLUTION = 1e-6


class FeaturePair(NamedTuple):
    """What two models make of the same B images."""

    left: jax.Array
    """[B, D1]."""
    right: jax.Array
    """[B, D2]."""


class Moments(NamedTuple):
    """What is kept of the feature pairs (x, y) of n images, float32."""

    count: jax.Array
    """n."""
    left_mean: jax.Array
    """x̄, [D1]."""
    right_mean: jax.Array
    """ȳ, [D2]."""
    left: jax.Array
    """Σ (x − x̄)(x − x̄)ᵀ, [D1, D1]."""
    right: jax.Array
    """Σ (y − ȳ)(y − ȳ)ᵀ, [D2, D2]."""
    cross: jax.Array
    """Σ (x − x̄)(y − ȳ)ᵀ, [D1, D2]."""


def pair_moments(pair: FeaturePair, mask: jax.Array) -> Moments:
    """The moments of the examples of a batch that count.

    Features are centred before they are multiplied, so that an offset they have in common costs
    no more precision than it has cost the features themselves.

    Args:
      pair: of B images.
      mask: [B], whether an example counts.
    """
    count = jnp.sum(mask, dtype=jnp.float32)
    (left, left_mean), (right, right_mean) = (_centred(x, mask, count) for x in pair)
    product = functools.partial(jnp.matmul, precision="highest")
    return Moments(
        count,
        left_mean,
        right_mean,
        product(left.T, left),
        product(right.T, right),
        product(left.T, right),
    )


def _centred(x: jax.Array, mask: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Features less their mean, 0 where the mask is; and the mean."""
    rows = mask.astype(bool)[:, None]
    x = x.astype(jnp.float32)
    mean = jnp.sum(jnp.where(rows, x, 0.0), axis=0) / jnp.maximum(count, 1.0)
    return jnp.where(rows, x - mean, 0.0), mean


@functools.partial(jax.jit, donate_argnums=0)
def merge_moments(one: Moments, other: Moments) -> Moments:
    """The moments of all examples of two batches (Chan, Golub and LeVeque 1983, eq. 2.1).

    Consumes (donates) the first.
    """
    count = one.count + other.count
    share = other.count / jnp.maximum(count, 1.0)
    left, right = other.left_mean - one.left_mean, other.right_mean - one.right_mean
    between = one.count * share
    return Moments(
        count,
        one.left_mean + share * left,
        one.right_mean + share * right,
        one.left + other.left + between * jnp.outer(left, left),
        one.right + other.right + between * jnp.outer(right, right),
        one.cross + other.cross + between * jnp.outer(left, right),
    )


def linear_cka(moments: Moments) -> float:
    """Linear centred kernel alignment (arXiv 1905.00414, §3), in [0, 1].

    ‖YᵀX‖² / (‖XᵀX‖·‖YᵀY‖), with X and Y the centred features of all images and Frobenius norms.
    1 where one model's features are a rotation of the other's times a factor; 0 where features are
    constant, of which nothing can be said.

    Args:
      moments: of all images, on the host.
    """
    left, right, cross = (
        np.asarray(product, np.float64) for product in (moments.left, moments.right, moments.cross)
    )
    if any(
        np.trace(product) <= moments.count * np.sum(np.square(_RESOLUTION * mean, dtype=np.float64))
        for product, mean in ((left, moments.left_mean), (right, moments.right_mean))
    ):
        return 0.0
    return float(np.sum(cross**2) / (np.linalg.norm(left) * np.linalg.norm(right)))
