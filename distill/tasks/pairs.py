"""What tasks that compare images with texts have in common."""

import math

import jax
import jax.numpy as jnp

from distill.errors import UserError
from distill.losses import Similarities
from distill.nn import Pair

CAPTION = "caption"
"""What the ids of an image's text are called in a batch."""


def captions_of(batch: dict[str, jax.Array], block: int | None, key: str) -> jax.Array:
    """The ids of a batch's texts, int32 [B, L].

    Args:
      batch: of examples.
      block: texts that are compared at once; None is all.
      key: of the config, that says so.

    Raises:
      UserError: if examples have no captions, or the block does not divide the batch.
    """
    if CAPTION not in batch:
        raise UserError(
            f"examples have no {CAPTION!r}, only {', '.join(batch)}; name the vocabulary that "
            "makes tokens of captions, --config.data.captions.path=…"
        )
    ids = batch[CAPTION]
    if block is not None and block < len(ids) and len(ids) % block:
        raise UserError(
            f"{key} is {block}, which does not divide a batch of {len(ids)} evenly; type "
            f"--{key}={math.gcd(len(ids), block)}"
        )
    return ids


def compared(pair: Pair, images: jax.Array, ids: jax.Array) -> Similarities:
    """What a pair compares images and texts by.

    Args:
      pair: the module.
      images: embeddings [B, E] of length 1.
      ids: of texts, [B, L].
    """
    bias = {} if pair.bias is None else {"bias": pair.bias[...]}
    return Similarities(images, pair.embed_texts(ids), jnp.exp(pair.temperature[...]), **bias)
