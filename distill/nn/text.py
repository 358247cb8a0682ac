"""Text towers: CLIP's (arXiv 2103.00020), SigLIP's (2303.15343) and SigLIP 2's (2502.14786)."""

import dataclasses
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from distill.bounds import (
    Between,
    Depth,
    OptionalWidth,
    Positive,
    Tokens,
    Vocabulary,
    Width,
    check_fields,
)
from distill.config import how_it_runs
from distill.nn.encoder import Encoder, SequentialBlock
from distill.nn.execution import Remat, Unroll
from distill.nn.heads import MapHead, MeanHead
from distill.nn.kernels import Kernel
from distill.nn.layers import Activation, Kept, Linear
from distill.nn.network import Network
from distill.parallel import constrain

Pool = Literal["last", "first", "eos", "argmax", "mean", "max", "map"]

# Flax's for dense layers, which big_vision leaves heads with.
lecun_normal = jax.nn.initializers.lecun_normal()


class TextOutput(NamedTuple):
    """What a text tower returns for B texts of L tokens."""

    embedding: jax.Array
    """[B, E], not normalised: float32 from the head, or the pooled state in the compute dtype."""
    tokens: jax.Array
    """[B, L, D], after the final norm, in the compute dtype."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Every choice in a text tower. Defaults are those of big_vision's.

    Raises:
      ValueError: if the choices contradict each other, such as a width that the heads do not
        divide.
    """

    vocab: Vocabulary
    """Rows of the token table; ids are below it."""
    length: Tokens
    """Of every text, padding included, in tokens."""
    width: Width = 512
    depth: Depth = 12
    mlp_dim: Width = 2048
    heads: Width = 8
    causal: bool = False
    """A token attends to those before it alone; without, to all, padding included."""
    pool: Pool = "last"
    """The state that stands for the text: at the last or first position, at the first `eos_id`, or
    at the largest id; the mean or maximum over positions; a MAP head."""
    eos_id: Annotated[int, Between(0, 2**24)] = 1
    """Of the token that pool "eos" looks for; a text without it has the state at its first
    position, as in `transformers`."""
    activation: Activation = "gelu_tanh"
    norm_epsilon: Positive = 1e-6
    embed_dim: OptionalWidth = 0
    """Width of the head's output; 0 leaves the head out, and the pooled state is the embedding."""
    head_bias: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of activations; parameters, norms, softmax and the head are float32."""
    remat: Remat = how_it_runs("auto")
    """What the backward pass computes again; see `distill.nn.ViTConfig`."""
    remat_keep: tuple[Kept, ...] = how_it_runs(())
    unroll: Unroll = how_it_runs("auto")
    attention: Kernel = how_it_runs("auto")

    # What the blocks of a text tower do not choose: without annotations, these are no fields.
    qkv_bias = True
    qk_norm = False
    qk_norm_center = False
    norm_bias = True
    norm_center = True
    gated = False
    layer_scale = False

    def __post_init__(self):
        check_fields(self)
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        if self.pool == "eos" and self.eos_id >= self.vocab:
            raise ValueError(f"eos_id {self.eos_id} is none of the {self.vocab} ids")
        if self.remat_keep and self.remat not in ("full", "offload"):
            raise ValueError(
                f'remat_keep belongs to remat "full" and "offload", not to {self.remat!r}'
            )

    @property
    def embedding_width(self) -> int:
        """E, of a text's embedding."""
        return self.embed_dim or self.width

    @property
    def sequence_length(self) -> int:
        """Tokens in the encoder: all, as padding is no exception."""
        return self.length

    @property
    def compute_dtype(self) -> jnp.dtype:
        """`dtype` as JAX knows it."""
        return jnp.dtype(self.dtype)


class TextTransformer(nnx.Module):
    """Token and position embeddings → encoder → pooled state → head.

    No token is masked as padding, so without `causal` padding is part of what is embedded, and ids
    must be padded, on the right, as in training. Initial values are those of big_vision's
    `text_transformer`: both tables are drawn from N(0, 1/√D), the head's kernel as LeCun's.
    """

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
        c = self.config = config
        normal = jax.nn.initializers.normal(stddev=c.width**-0.5)
        self.token_embedding = nnx.Param(
            normal(rngs.params(), (c.vocab, c.width), jnp.float32), axes=("vocab", "embed")
        )
        self.position_embedding = nnx.Param(
            normal(rngs.params(), (c.length, c.width), jnp.float32), axes=("positions", "embed")
        )
        self.encoder = Encoder(
            c,
            lambda rngs: SequentialBlock(c, causal=c.causal, rngs=rngs),
            depth=c.depth,
            remat=c.remat,
            remat_keep=c.remat_keep,
            unroll=c.unroll,
            rngs=rngs,
        )
        self.map_head = _make_map_head(c, rngs) if c.pool == "map" else None
        self.head = (
            Linear(
                {"embed": c.width},
                {"joint": c.embed_dim},
                use_bias=c.head_bias,
                kernel_init=lecun_normal,
                rngs=rngs,
            )
            if c.embed_dim
            else None
        )

    def __call__(self, ids: jax.Array) -> TextOutput:
        """Maps ids [B, L], integers below `vocab`, to embeddings and tokens.

        The embedding of a text with an id that the table has not is not a number.

        Raises:
          ValueError: for ids of another rank or length, or that are no integers.
        """
        c = self.config
        if ids.ndim != 2 or ids.shape[1] != c.length:
            raise ValueError(
                f"ids have shape {ids.shape}; expected [batch, {c.length}]. Pad and cut texts to "
                f"{c.length} tokens: the positions and what is pooled depend on it"
            )
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(f"ids are {ids.dtype}; expected integers")
        rows = jnp.take(self.token_embedding[...], ids, axis=0, mode="fill")
        x = constrain(rows, "batch", "tokens", "embed") + self.position_embedding[...]
        tokens = self.encoder(x.astype(c.compute_dtype))
        pooled = _pool(c, tokens, ids) if self.map_head is None else self.map_head(tokens)
        return TextOutput(pooled if self.head is None else self.head(pooled), tokens)


def _make_map_head(c: TextConfig, rngs: nnx.Rngs) -> MapHead:
    return MapHead(
        c.width,
        c.mlp_dim,
        c.heads,
        norm_epsilon=c.norm_epsilon,
        activation=c.activation,
        dtype=c.compute_dtype,
        rngs=rngs,
    )


def _pool(c: TextConfig, tokens: jax.Array, ids: jax.Array) -> jax.Array:
    """The state [B, D] that stands for each text, without a MAP head."""
    match c.pool:
        case "eos":
            return _state_at(tokens, jnp.argmax(ids == c.eos_id, axis=1))
        case "argmax":
            return _state_at(tokens, jnp.argmax(ids, axis=1))
        case "mean":
            return MeanHead()(tokens)
        case "max":
            return jnp.max(tokens, axis=1)
    place = 0 if c.pool == "first" else c.length - 1
    return jax.lax.index_in_dim(tokens, place, axis=1, keepdims=False)


def _state_at(tokens: jax.Array, places: jax.Array) -> jax.Array:
    """Of tokens [B, L, D], those [B, D] at places [B]: a sum, which devices can share anyhow."""
    there = jnp.arange(tokens.shape[1]) == places[:, None]
    return jnp.sum(jnp.where(there[..., None], tokens, 0), axis=1)


@dataclasses.dataclass(frozen=True)
class TextNetwork(Network):
    """A text tower; its config is a `TextConfig`."""

    def abstract_inputs(self, batch_size: int) -> tuple[Any, ...]:
        """Ids, [B, L] int32."""
        return (jax.ShapeDtypeStruct((batch_size, self.config.length), "int32"),)
