"""How alike two models' features are: linear CKA, gathered over batches."""

import dataclasses
import functools
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from distill.metrics.metric import Sums

# Features that vary by less than this share of their mean are constant as far as float32 can tell.
_RESOLUTION = 1e-6


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LinearCKA:
    """Linear centred kernel alignment (arXiv 1905.00414, §3) of features x and y of n images.

    ‖YᵀX‖² / (‖XᵀX‖·‖YᵀY‖), with X and Y the centred features of all images and Frobenius norms,
    in [0, 1]. 1 where one model's features are a rotation of the other's times a factor.
    """

    count: Sums
    """n."""
    left_mean: Sums
    """x̄, [D1]."""
    right_mean: Sums
    """ȳ, [D2]."""
    left_rest: Sums
    """Σ (x − x̄), [D1]: what rounding x̄ to float32 leaves of it."""
    right_rest: Sums
    """Σ (y − ȳ), [D2]."""
    left: Sums
    """Σ (x − x̄)(x − x̄)ᵀ, [D1, D1]."""
    right: Sums
    """Σ (y − ȳ)(y − ȳ)ᵀ, [D2, D2]."""
    cross: Sums
    """Σ (x − x̄)(y − ȳ)ᵀ, [D1, D2]."""
    requires: str = dataclasses.field(
        default="features that differ from the others'", metadata={"static": True}
    )

    @classmethod
    def of(cls, left: jax.Array, right: jax.Array, where: jax.Array) -> Self:
        """Measures a batch.

        Features are centred before they are multiplied, so that an offset they have in common costs
        no more precision than it has cost the features themselves.

        Args:
          left: [B, D1], of one model.
          right: [B, D2], of the other, of the same images.
          where: bool [B], whether an image counts.
        """
        count = jnp.sum(where, dtype=jnp.int32)
        (left, left_mean), (right, right_mean) = (_centred(x, where, count) for x in (left, right))
        product = functools.partial(jnp.matmul, precision="highest")
        return cls(
            count,
            left_mean,
            right_mean,
            jnp.sum(left, axis=0),
            jnp.sum(right, axis=0),
            product(left.T, left),
            product(right.T, right),
            product(left.T, right),
        )

    def merge(self, other: Self) -> Self:
        """The moments of the images of both (Chan, Golub and LeVeque 1983, eq. 2.1)."""
        count = self.count + other.count
        share = other.count / max(count, 1)
        (left_mean, right_mean), others = self._means(), other._means()
        left, right = others[0] - left_mean, others[1] - right_mean
        between = self.count * share
        return type(self)(
            count,
            left_mean + share * left,
            right_mean + share * right,
            np.zeros_like(left),
            np.zeros_like(right),
            self.left + other.left + np.outer(between * left, left),
            self.right + other.right + np.outer(between * right, right),
            self.cross + other.cross + np.outer(between * left, right),
        )

    def _means(self) -> tuple[Sums, Sums]:
        count = max(self.count, 1)
        return self.left_mean + self.left_rest / count, self.right_mean + self.right_rest / count

    def value(self) -> float | None:
        """The alignment; None of no images, or where one model's features are constant."""
        sides = (self.left, self.left_mean), (self.right, self.right_mean)
        if any(
            np.trace(product) <= self.count * np.sum((_RESOLUTION * mean) ** 2)
            for product, mean in sides
        ):
            return None
        norms = np.linalg.norm(self.left) * np.linalg.norm(self.right)
        return float(np.sum(self.cross**2) / norms)


def _centred(x: jax.Array, where: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Features less their mean, 0 of images that do not count; and the mean."""
    rows = where[:, None]
    x = x.astype(jnp.float32)
    mean = jnp.sum(jnp.where(rows, x, 0.0), axis=0) / jnp.maximum(count, 1)
    return jnp.where(rows, x - mean, 0.0), mean
