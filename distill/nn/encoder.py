"""The pre-LN transformer encoder, its layers stacked and scanned."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from distill.nn.attention import Attention, QKNorm
from distill.nn.embeddings import Rotation
from distill.nn.execution import Remat, Unroll, execution_of
from distill.nn.kernels import Kernel
from distill.nn.layers import Activation, LayerNorm, LayerScale, Mlp
from distill.parallel import constrain, materialize

# What the backward pass finds in memory; the rest is computed again.
REMAT_POLICIES = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "offload": jax.checkpoint_policies.offload_dot_with_no_batch_dims("device", "pinned_host"),
}


class _BlockConfig(Protocol):
    """What a transformer block reads of its model's configuration."""

    @property
    def width(self) -> int: ...

    @property
    def mlp_dim(self) -> int: ...

    @property
    def heads(self) -> int: ...

    @property
    def qkv_bias(self) -> bool: ...

    @property
    def qk_norm(self) -> bool: ...

    @property
    def qk_norm_center(self) -> bool: ...

    @property
    def norm_bias(self) -> bool: ...

    @property
    def norm_center(self) -> bool: ...

    @property
    def norm_epsilon(self) -> float: ...

    @property
    def activation(self) -> Activation: ...

    @property
    def gated(self) -> bool: ...

    @property
    def layer_scale(self) -> bool: ...

    @property
    def attention(self) -> Kernel: ...

    @property
    def compute_dtype(self) -> jnp.dtype: ...


def make_norm(config: _BlockConfig) -> LayerNorm:
    """The LayerNorm over tokens that `config` asks for."""
    return LayerNorm(
        "embed",
        config.width,
        use_bias=config.norm_bias,
        center=config.norm_center,
        epsilon=config.norm_epsilon,
        dtype=config.compute_dtype,
    )


def make_qk_norm(config: _BlockConfig) -> QKNorm | None:
    """The QK normalisation that `config` asks for, or None."""
    if not config.qk_norm:
        return None
    head_dim = config.width // config.heads
    return QKNorm(head_dim, center=config.qk_norm_center, dtype=config.compute_dtype)


def _make_scale(config: _BlockConfig) -> LayerScale | None:
    return LayerScale(config.width, dtype=config.compute_dtype) if config.layer_scale else None


class SequentialBlock(nnx.Module):
    """x ← x + Attention(LN(x)); x ← x + MLP(LN(x)); each branch scaled if the config says so.

    With `causal`, a token attends to itself and those before it alone.
    """

    def __init__(self, config: _BlockConfig, *, causal: bool = False, rngs: nnx.Rngs):
        self.attention_norm = make_norm(config)
        self.attention = Attention(
            config.width,
            config.heads,
            use_qkv_bias=config.qkv_bias,
            qk_norm=make_qk_norm(config),
            kernel=config.attention,
            causal=causal,
            dtype=config.compute_dtype,
            rngs=rngs,
        )
        self.mlp_norm = make_norm(config)
        self.mlp = Mlp(
            config.width,
            config.mlp_dim,
            activation=config.activation,
            gated=config.gated,
            dtype=config.compute_dtype,
            rngs=rngs,
        )
        self.attention_scale = _make_scale(config)
        self.mlp_scale = _make_scale(config)

    def __call__(self, x: jax.Array, rotation: Rotation | None = None) -> jax.Array:
        """Maps tokens [B, T, D] to [B, T, D]; `rotation` says where they are in the image."""
        attended = self.attention(materialize(self.attention_norm(x)), rotation=rotation)
        x = x + (attended if self.attention_scale is None else self.attention_scale(attended))
        x = checkpoint_name(x, "middle")
        hidden = self.mlp(materialize(self.mlp_norm(x)))
        return x + (hidden if self.mlp_scale is None else self.mlp_scale(hidden))

    def largest_logits(self, x: jax.Array, rotation: Rotation | None = None) -> jax.Array:
        """Of its attention, given what the block is called with; float32 [B]."""
        return self.attention.largest_logits(self.attention_norm(x), rotation)


def stack_layers(make_block: Callable[[nnx.Rngs], nnx.Module], depth: int, rngs: nnx.Rngs):
    """Creates `depth` blocks as one module whose parameters lead with the axis `layers`."""

    @nnx.split_rngs(splits=depth)
    @nnx.vmap(in_axes=0, out_axes=0, transform_metadata={nnx.PARTITION_NAME: None})
    def create(rngs):
        return make_block(rngs)

    blocks = create(rngs)
    for _, parameter in nnx.iter_graph(blocks):
        if isinstance(parameter, nnx.Param):
            parameter.set_metadata(axes=("layers", *parameter.axes))
    return blocks


class Encoder(nnx.Module):
    """`depth` blocks under `lax.scan`, then the final norm.

    Scanning keeps compile time and the size of the program independent of the depth.
    `unroll=True` runs the same parameters as straight-line code. What of `remat` and `unroll` is
    "auto" is chosen where the encoder is traced (`distill.nn.execution`).
    """

    def __init__(
        self,
        config: _BlockConfig,
        make_block: Callable[[nnx.Rngs], nnx.Module],
        *,
        depth: int,
        remat: Remat = "none",
        remat_keep: tuple[str, ...] = (),
        unroll: Unroll = False,
        rngs: nnx.Rngs,
    ):
        self.blocks = stack_layers(make_block, depth, rngs)
        self.norm = make_norm(config)
        self.config = config
        self.depth = depth
        self.remat: Remat = remat
        self.remat_keep = remat_keep
        self.unroll: Unroll = unroll

    def __call__(self, x: jax.Array, rotation: Rotation | None = None) -> jax.Array:
        """Maps tokens [B, T, D] to [B, T, D]; every block gets `rotation` if there is one."""
        return self.with_layers(x, (), rotation)[0]

    def with_layers(
        self, x: jax.Array, layers: tuple[int, ...], rotation: Rotation | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """What a call returns, and the tokens after some layers, not normed, [K, B, T, D].

        Args:
          x: tokens [B, T, D].
          layers: K numbers from 1, that of the first block, to the depth; each once.
          rotation: as of a call.
        """
        graphdef, stacked = nnx.split(self.blocks)
        where = () if rotation is None else (rotation,)
        batch, tokens, _ = x.shape
        run = execution_of(self.config, self.depth, self.remat, self.unroll, batch, tokens)

        def layer(x, params):
            x = nnx.merge(graphdef, _keep_sharded(params))(x, *where)
            return constrain(x, "batch", "tokens", "residual")

        if run.remat != "none":
            # prevent_cse guards against a pass that scan already rules out, at a cost.
            policy = REMAT_POLICIES[run.remat]
            if self.remat_keep:
                policy = _keep(self.remat_keep, on_host=run.remat == "offload")
            layer = jax.checkpoint(layer, policy=policy, prevent_cse=run.unroll)

        def step(carry, scanned):
            params, place = scanned
            x, kept = carry
            x = layer(x, params)
            # What belongs to no place falls outside and is dropped.
            return (x, kept.at[place].set(x, mode="drop")), None

        x = constrain(x, "batch", "tokens", "residual")
        kept = jnp.zeros((len(layers), *x.shape), x.dtype)
        places = np.full(self.depth, len(layers))
        places[np.array(layers, int) - 1] = np.arange(len(layers))
        unroll = self.depth if run.unroll else 1
        if layers:
            (x, kept), _ = jax.lax.scan(step, (x, kept), (stacked, places), unroll=unroll)
        else:
            x, _ = jax.lax.scan(lambda x, p: (layer(x, p), None), x, stacked, unroll=unroll)
        return self.norm(x), kept

    def largest_logits(self, x: jax.Array, rotation: Rotation | None = None) -> jax.Array:
        """The largest attention logit in each layer, float32 [depth, B], of what it is called with.

        Computed with all logits of a layer in memory, whatever the kernel.
        """
        graphdef, stacked = nnx.split(self.blocks)
        where = () if rotation is None else (rotation,)

        def layer(x, params):
            block: Any = nnx.merge(graphdef, _keep_sharded(params))
            largest = block.largest_logits(x, *where)
            return constrain(block(x, *where), "batch", "tokens", "residual"), largest

        return jax.lax.scan(layer, constrain(x, "batch", "tokens", "residual"), stacked)[1]


def _keep(names: tuple[str, ...], *, on_host: bool) -> Callable[..., Any]:
    """The policy that keeps what has one of these names, and nothing else."""
    if not on_host:
        return jax.checkpoint_policies.save_only_these_names(*names)
    return jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=(),
        names_which_can_be_offloaded=names,
        offload_src="device",
        offload_dst="pinned_host",
    )


def _keep_sharded(params: nnx.State) -> nnx.State:
    """One layer's parameters as they are cut; so are their gradients, which scan would gather."""

    def keep(_, parameter):
        return parameter.replace(constrain(parameter[...], *parameter.axes[1:]))

    return nnx.map_state(keep, params)
