"""From tokens to one embedding per image."""

import jax
import jax.numpy as jnp
from flax import nnx

from distill.nn.attention import Attention
from distill.nn.layers import Activation, LayerNorm, Mlp, xavier_uniform


class MapHead(nnx.Module):
    """Multi-head attention pooling: a learned probe attends to the tokens, then an MLP.

    "Scaling Vision Transformers" (arXiv 2106.04560, §3.2); same heads and MLP as the encoder. Its
    projections keep their biases under ViT-22B too, whose paper speaks of the encoder's only.
    """

    def __init__(
        self,
        width: int,
        mlp_dim: int,
        heads: int,
        *,
        norm_bias: bool = True,
        norm_center: bool = True,
        norm_epsilon: float = 1e-6,
        activation: Activation = "gelu_tanh",
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        probe = xavier_uniform(rngs.params(), (1, 1, width), jnp.float32)
        self.probe = nnx.Param(probe, axes=(None, None, "embed"))
        self.attention = Attention(width, heads, dtype=dtype, rngs=rngs)
        self.norm = LayerNorm(
            "embed",
            width,
            use_bias=norm_bias,
            center=norm_center,
            epsilon=norm_epsilon,
            dtype=dtype,
        )
        self.mlp = Mlp(width, mlp_dim, activation=activation, dtype=dtype, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps tokens [B, T, D] to [B, D]."""
        probe = jnp.broadcast_to(self.probe[...], (tokens.shape[0], 1, tokens.shape[-1]))
        x = self.attention(probe.astype(tokens.dtype), tokens)
        x = x + self.mlp(self.norm(x))
        # Not x[:, 0]: with a polymorphic batch that lowers to a gather TFLite cannot convert.
        return jax.lax.index_in_dim(x, 0, axis=1, keepdims=False)


class MeanHead(nnx.Module):
    """Global average pooling: the mean over tokens, in float32."""

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps tokens [B, T, D] to [B, D]."""
        return jnp.mean(tokens, axis=1, dtype=jnp.float32).astype(tokens.dtype)


class ClassTokenHead(nnx.Module):
    """The class token, which the encoder carries in front of the patch tokens."""

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps tokens [B, 1 + T, D] to [B, D]."""
        return jax.lax.index_in_dim(tokens, 0, axis=1, keepdims=False)
