"""Multi-head attention with optional QK normalisation."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from distill.nn.embeddings import Rotation, rotate
from distill.nn.kernels import Kernel, attend
from distill.nn.layers import LayerNorm, Linear
from distill.parallel import constrain, materialize, settle


@jax.custom_vjp
def _settle_gradient(x: jax.Array) -> jax.Array:
    """x; its gradient is written to memory before anything uses it."""
    return x


_settle_gradient.defvjp(
    lambda x: (x, None), lambda _, gradient: (jax.lax.optimization_barrier(gradient),)
)


class QKNorm(nnx.Module):
    """LayerNorm over head_dim on queries and keys, scale only, shared across heads.

    ViT-22B (arXiv 2302.05442, §2.1): without it attention logits grow past 50,000 and training
    diverges from about 8B parameters. Whether the authors centre is not documented; the default
    follows the model's other norms and does not.
    """

    def __init__(self, head_dim: int, *, center: bool = False, dtype: jnp.dtype = jnp.float32):
        norm = functools.partial(LayerNorm, use_bias=False, center=center, dtype=dtype)
        self.query = norm("head_dim", head_dim)
        self.key = norm("head_dim", head_dim)

    def __call__(self, q: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Normalises q and k, both [B, T, H, K]."""
        # The gradients enter two large products each, those with the weights and with the tokens.
        # XLA for TPU would fuse the norm's backward pass into both and compute it again for every
        # tile of their results. In a forward pass alone it would sum the squares while it
        # multiplies, which takes the product longer than a pass of its own over what is written.
        q, k = settle(q), settle(k)
        return self.query(_settle_gradient(q)), self.key(_settle_gradient(k))


def split_heads(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, ...]:
    """Queries, keys and values [B, T, H, K] where their heads belong, by name for `remat_keep`."""
    return tuple(
        checkpoint_name(constrain(x, "batch", "tokens", "heads", "head_dim"), name)
        for name, x in {"query": q, "key": k, "value": v}.items()
    )


def largest_logits(q: jax.Array, k: jax.Array) -> jax.Array:
    """The largest |q·k|/√K of each example's heads and pairs of tokens, float32 [B].

    Args:
      q: [B, T, H, K].
      k: [B, S, H, K].
    """
    products = jnp.einsum("bthk,bshk->bhts", q, k, preferred_element_type=jnp.float32)
    return jnp.max(jnp.abs(products), axis=(1, 2, 3)) / math.sqrt(q.shape[-1])


class Attention(nnx.Module):
    """Multi-head attention of queries [B, T, D] over keys and values [B, S, D].

    `kernel` and `causal` are those of `distill.nn.kernels.attend`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        use_qkv_bias: bool = True,
        use_out_bias: bool = True,
        qk_norm: QKNorm | None = None,
        kernel: Kernel = "plain",
        causal: bool = False,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        embed, split = {"embed": width}, {"heads": heads, "head_dim": width // heads}
        linear = functools.partial(Linear, dtype=dtype, rngs=rngs)
        self.query = linear(embed, split, use_bias=use_qkv_bias)
        self.key = linear(embed, split, use_bias=use_qkv_bias)
        self.value = linear(embed, split, use_bias=use_qkv_bias)
        self.out = linear(split, embed, use_bias=use_out_bias)
        self.qk_norm = qk_norm
        self.kernel: Kernel = kernel
        self.causal = causal

    def __call__(
        self,
        x: jax.Array,
        context: jax.Array | None = None,
        *,
        rotation: Rotation | None = None,
    ) -> jax.Array:
        """Attends from x [B, T, D] to `context` [B, S, D] (x itself where None).

        `rotation` turns queries and keys by where their patches are.
        """
        q, k, v = self._compared(x, x if context is None else context, rotation)
        attended = materialize(attend(q, k, v, kernel=self.kernel, causal=self.causal))
        return self.out(checkpoint_name(attended, "attended"))

    def largest_logits(self, x: jax.Array, rotation: Rotation | None = None) -> jax.Array:
        """As the function of this name, of the tokens x [B, T, D] attending to themselves."""
        q, k, _ = self._compared(x, x, rotation)
        return largest_logits(q, k)

    def _compared(
        self, x: jax.Array, context: jax.Array, rotation: Rotation | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries and keys as they are multiplied, and values."""
        q, k, v = split_heads(self.query(x), self.key(context), self.value(context))
        if self.qk_norm is not None:
            q, k = self.qk_norm(q, k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        return q, k, v
