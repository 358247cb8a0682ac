"""Training a head on frozen tokens: the class or the depth of each pixel.

DINOv3's linear protocol (arXiv 2508.10104, appendix D): whole features dropped, batch normalisation
over all patches of the batch, one map for all patches, scores or depths interpolated to the pixels.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from distill.errors import UserError
from distill.nn import Params
from distill.nn.dense import DepthScale, HeadedNetwork, affine, patch_tokens

NORM_EPSILON = 1e-5
"""Added to variances, as torch's BatchNorm adds it."""

# Of the loss of depths (arXiv 1907.10326): the weight of the mean, and what is added to depths
# before their logarithm.
_MEAN_WEIGHT, _DEPTH_EPSILON = 0.15, 1e-3
# Where predictions are exact, the root's slope would be infinite.
_ROOT_EPSILON = 1e-8


class Prepared(NamedTuple):
    """What the loss is computed from; no gradient flows through any of it."""

    tokens: jax.Array
    """[B, rows, columns, F] float32, standardised over the batch."""
    target: jax.Array
    """Of each pixel, [B, height, width]: int32, its class or −1; or float32, its depth or NaN."""
    step: jax.Array
    """int32 []."""


@dataclasses.dataclass(frozen=True)
class Dense:
    """A head's scores are to tell what pixels show.

    The network's tokens are those of the tower outside the gradient, and so is their
    standardisation: the mean and the variance of each feature over the patches of the whole batch.
    A batch normalisation's own scale and shift are left out, as the map that follows says the same.
    """

    needs_labels = False
    training_only = ()
    # Patches of all examples are standardised together, and pixels of all count alike.
    mean_over_examples = False

    network: HeadedNetwork
    """The head on its tower, placed; what is trained is the head alone."""
    ignore: int = 255
    """Of a pixel's class: none."""
    dropout: float = 0.1
    """The share of an image's features that all of its patches lose."""
    mean_alone: int = 100
    """Steps at the beginning whose loss of depths is without the variance."""

    def prepare(self, frozen: Params, batch: dict[str, jax.Array], key: jax.Array) -> Prepared:
        """Standardised tokens, and what is known of the pixels.

        Args:
          frozen: the parameters of the tower.
          batch: `image`, and `segmentation` or `depth`; `step`.
          key: of the features that are dropped.

        Raises:
          UserError: if examples have no such array.
        """
        name = "segmentation" if self.network.config.depth is None else "depth"
        if name not in batch:
            raise UserError(
                f"examples have no {name!r}, only {', '.join(batch)}; name a source that has, "
                f"--config.data.source={'masks' if name == 'segmentation' else 'depth'}:PATH"
            )
        config, target = self.network.config, batch[name]
        if config.depth is None:
            target = target.astype(jnp.int32)
            target = jnp.where(target == self.ignore, -1, target)
        tokens = patch_tokens(self.network.base, frozen, batch["image"], config.view)
        if self.dropout:
            shape = (len(tokens), 1, 1, tokens.shape[-1])
            kept = jax.random.bernoulli(key, 1 - self.dropout, shape)
            tokens = jnp.where(kept, tokens / (1 - self.dropout), 0)
        prepared = Prepared(standardised(tokens), target, batch["step"])
        return jax.lax.optimization_barrier(prepared)

    def loss(self, params: Params, prepared: Prepared) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The mean cross-entropy of pixels that have a class, or `depth_loss`; a figure to log."""
        scores = affine(prepared.tokens, params["kernel"], params["bias"])
        scale, size = self.network.config.depth, prepared.target.shape[1:]
        if scale is None:
            return class_loss(enlarged(scores, size), prepared.target)
        return depth_loss(
            enlarged(scale(scores), size)[..., 0],
            prepared.target,
            scale,
            mean_alone=prepared.step < self.mean_alone,
        )


def standardised(tokens: jax.Array) -> jax.Array:
    """Tokens [B, rows, columns, F] of mean 0 and variance 1 over all but the last axis."""
    mean = jnp.mean(tokens, axis=(0, 1, 2))
    variance = jnp.mean(jnp.square(tokens - mean), axis=(0, 1, 2))
    return (tokens - mean) * jax.lax.rsqrt(variance + NORM_EPSILON)


def enlarged(scores: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Scores [B, rows, columns, C] at [B, *size, C], as `resize_bilinear` resizes them."""
    shape = (len(scores), *size, scores.shape[-1])
    return jax.image.resize(scores, shape, "bilinear", antialias=False)


def class_loss(logits: jax.Array, target: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The mean cross-entropy of pixels that have a class; which share of them is right.

    DINOv3's mean is over all pixels, of which those without a class count 0.

    Args:
      logits: [B, height, width, C].
      target: int32 [B, height, width]; −1 of pixels without a class.
    """
    known = target >= 0
    count = jnp.maximum(jnp.sum(known), 1)
    log = jax.nn.log_softmax(logits)
    # Not gathered: what is summed is cut over devices as the logits are.
    chosen = jnp.sum(log * jax.nn.one_hot(target, logits.shape[-1]), axis=-1)
    right = known & (jnp.argmax(logits, axis=-1) == target)
    return -jnp.sum(chosen) / count, {"pixel_accuracy": jnp.sum(right) / count}


def depth_loss(
    depths: jax.Array, target: jax.Array, scale: DepthScale, *, mean_alone: jax.Array | bool
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """√(var g + 0.15·(mean g)²) of g = log depth − log target; the mean relative error.

    The scale-invariant loss of BTS (arXiv 1907.10326) as DINOv2 has it; the variance is the
    unbiased one, and both are over all pixels of the batch whose depth lies within the limits.

    Args:
      depths: predicted, [B, height, width].
      target: float32 [B, height, width].
      scale: whose limits count.
      mean_alone: whether to leave the variance out.
    """
    low, high = scale.limits
    known = (target > low) & (target < high)
    count = jnp.sum(known)
    safe = jnp.where(known, target, 1.0)
    ratio = jnp.log(depths + _DEPTH_EPSILON) - jnp.log(safe + _DEPTH_EPSILON)
    g = jnp.where(known, ratio, 0.0)
    mean = jnp.sum(g) / jnp.maximum(count, 1)
    squares = jnp.where(known, jnp.square(g - mean), 0.0)
    variance = jnp.sum(squares) / jnp.maximum(count - 1, 1)
    error = jnp.sum(jnp.where(known, jnp.abs(depths - safe) / safe, 0.0)) / jnp.maximum(count, 1)
    squared = jnp.where(mean_alone, 0.0, variance) + _MEAN_WEIGHT * jnp.square(mean)
    return jnp.sqrt(squared + _ROOT_EPSILON), {"abs_rel": error}
