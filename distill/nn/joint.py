"""Images where texts are: what networks have in common whose images are compared with texts."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from distill.nn.layers import Linear
from distill.nn.text import lecun_normal
from distill.nn.vit import LayerTokens, ViTConfig, ViTOutput

# Of big_vision; `transformers` has none, which differs in the last bits alone.
_EPSILON = 1e-8


class OfImageTower:
    """What a configuration says of images: what that of its image tower does."""

    image: ViTConfig

    @property
    def width(self) -> int:
        """D, of the image's tokens."""
        return self.image.width

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the image's tokens."""
        return self.image.grid

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images."""
        return self.image.image_shape

    @property
    def channels(self) -> int:
        """Of the images."""
        return self.image.channels

    @property
    def mean(self) -> tuple[float, ...]:
        """Of pixel values; see `distill.nn.ViTConfig`."""
        return self.image.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Of pixel values; see `distill.nn.ViTConfig`."""
        return self.image.std


class _Projected(Protocol):
    """What says how a network's images are projected."""

    @property
    def image(self) -> ViTConfig: ...
    @property
    def embed_dim(self) -> int: ...
    @property
    def projection_bias(self) -> bool: ...


class JointImages(nnx.Module):
    """An image tower whose embedding is projected to where texts have theirs, and of length 1.

    `image` builds the image tower from its configuration.
    """

    def __init__(self, config: _Projected, *, image: Callable[..., nnx.Module], rngs: nnx.Rngs):
        self.image: Any = image(config.image, rngs=rngs)
        self.image_projection = _projection(config, rngs) if config.embed_dim else None

    def __call__(self, images: jax.Array) -> ViTOutput:
        """What the image tower makes of prepared images [B, height, width, C].

        The embedding, [B, E] float32, is that which texts are compared with; tokens are the
        tower's.
        """
        return self._joint(self.image(images))

    def with_layers(
        self, images: jax.Array, layers: tuple[int, ...], *, normed: bool = True
    ) -> tuple[ViTOutput, LayerTokens]:
        """What a call returns, and tokens of the image tower; see `VisionTransformer`."""
        found, tokens = self.image.with_layers(images, layers, normed=normed)
        return self._joint(found), tokens

    def largest_attention_logits(self, images: jax.Array) -> jax.Array:
        """Of the image tower, float32 [B, depth]; see `VisionTransformer`."""
        return self.image.largest_attention_logits(images)

    def logits(self, embedding: jax.Array) -> jax.Array:
        """Of embeddings [B, E]: none, [B, 0]."""
        return embedding[:, :0]

    def _joint(self, found: ViTOutput) -> ViTOutput:
        embedding = found.embedding
        if self.image_projection is not None:
            embedding = self.image_projection(embedding)
        embedding = normalise(embedding)
        return ViTOutput(self.logits(embedding), embedding, found.tokens)


def _projection(config: _Projected, rngs: nnx.Rngs) -> Linear:
    return Linear(
        {"embed": config.image.width},
        {"joint": config.embed_dim},
        use_bias=config.projection_bias,
        kernel_init=lecun_normal,
        rngs=rngs,
    )


def normalise(embedding: jax.Array) -> jax.Array:
    """Embeddings [B, E] over their lengths, in float32."""
    embedding = embedding.astype(jnp.float32)
    return embedding / (jnp.linalg.norm(embedding, axis=-1, keepdims=True) + _EPSILON)


def similarities(
    images: jax.Array, texts: jax.Array, temperature: jax.Array, bias: jax.Array | None
) -> jax.Array:
    """Cosines of images [B, E] and texts or classes [N, E], scaled, with the bias: [B, N] float32.

    Args:
      images: embeddings of length 1, float32.
      texts: likewise.
      temperature: logarithm of the scale.
      bias: added; None adds nothing.
    """
    # What a device rounds the factors to is worth a whole logit at a scale of 100.
    logits = jnp.matmul(images, texts.T, precision="highest") * jnp.exp(temperature)
    return logits if bias is None else logits + bias
