"""ViT-22B: parallel blocks, QK normalisation and few biases (arXiv 2302.05442, §2.1).

Its asynchronous parallel linear operations (§3) are `distill.parallel.linear`.
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from distill.config import how_it_runs
from distill.nn import closed_form
from distill.nn.attention import largest_logits, split_heads
from distill.nn.encoder import make_norm, make_qk_norm
from distill.nn.kernels import Kernel, attend
from distill.nn.layers import Linear, mlp_bias
from distill.nn.variants import Shape, VariantConfig
from distill.nn.vision import VisionNetwork
from distill.nn.vit import VisionTransformer
from distill.parallel import (
    column_parallel,
    constrain,
    current_platform,
    materialize,
    row_parallel,
)

SHAPES = {"22B": Shape(width=6144, depth=48, mlp_dim=24576, heads=48)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViT22BConfig(VariantConfig):
    """`ViTConfig` with ViT-22B's defaults and its choices of layout.

    Raises:
      ValueError: if the choices contradict each other.
    """

    shapes = SHAPES
    family: Literal["vit_22b"] = "vit_22b"
    qkv_bias: bool = False
    qk_norm: bool = True
    norm_bias: bool = False
    norm_center: bool = False
    parallel: bool = True
    """Attention and MLP side by side; False puts them in sequence, for comparison."""
    fused: bool = how_it_runs(False)
    """Run QKV and MLP-in as one matrix product, and attention-out and MLP-out as another."""
    async_linear: bool = how_it_runs(False)
    """Hide the transfers of tensor parallelism behind the products: `distill.parallel.linear`.

    Takes effect on a mesh whose `tensor` axis has more than one device, laid out by the default
    rules; with other rules, parameters are laid out anew in every layer.
    """

    def build(self) -> VisionNetwork:
        """The network; no memory is allocated."""
        return build(self)

    def __post_init__(self):
        super().__post_init__()
        if self.parallel and (
            self.layer_scale
            or self.gated
            or self.activation != "gelu_tanh"
            or self.position_embedding == "rotary"
        ):
            raise ValueError(
                "parallel blocks have no layer_scale, gate, rotary positions or activation other "
                "than gelu_tanh"
            )
        if self.parallel and "middle" in self.remat_keep:
            raise ValueError("parallel blocks have nothing between attention and MLP to keep")
        if self.async_linear and self.fused:
            raise ValueError(
                "async_linear and fused are two ways to run the projections; set one of them"
            )
        if self.async_linear and not self.parallel:
            raise ValueError(
                "async_linear is for parallel blocks; set parallel, or leave async_linear out"
            )


class ParallelBlock(nnx.Module):
    """y' = LN(x); y = x + Attention(y') + MLP(y').

    Biases: MLP in and out only. The MLP-out bias serves the sum of both branches.
    Each projection keeps its own kernel, so that one set of parameters runs either way:
    separate products, or fused ones over kernels joined on the fly, where joining shares the
    pass over the weights that casts them to the compute dtype, or asynchronous ones, where the
    four projections in share one travelling input and the two projections out one travelling sum.
    """

    def __init__(self, config: ViT22BConfig, *, rngs: nnx.Rngs):
        self.fused = config.fused
        self.async_linear = config.async_linear
        self.kernel: Kernel = config.attention
        self.dtype = dtype = config.compute_dtype
        embed = {"embed": config.width}
        split = {"heads": config.heads, "head_dim": config.width // config.heads}
        mlp = {"mlp": config.mlp_dim}
        linear = functools.partial(Linear, dtype=dtype, rngs=rngs)
        self.norm = make_norm(config)
        self.query = linear(embed, split, use_bias=config.qkv_bias)
        self.key = linear(embed, split, use_bias=config.qkv_bias)
        self.value = linear(embed, split, use_bias=config.qkv_bias)
        self.qk_norm = make_qk_norm(config)
        self.mlp_in = linear(embed, mlp, bias_init=mlp_bias)
        self.attention_out = linear(split, embed, use_bias=False)
        self.mlp_out = linear(mlp, embed, bias_init=mlp_bias)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps tokens [B, T, D] to [B, T, D]."""
        if self.async_linear:
            project_in, project_out = self._project_in_async, self._project_out_async
        elif self.fused:
            project_in, project_out = self._project_in_fused, self._project_out_fused
        else:
            project_in, project_out = self._project_in, self._project_out
        *qkv, hidden = project_in(materialize(self.norm(x)))
        q, k, v = split_heads(*qkv)
        hidden = checkpoint_name(constrain(hidden, "batch", "tokens", "mlp"), "hidden")
        if self.qk_norm is not None:
            q, k = self.qk_norm(q, k)
        on_tpu = current_platform() == "tpu"
        gelu = closed_form.short_gelu_tanh if on_tpu else closed_form.plain_gelu_tanh
        attended = checkpoint_name(materialize(attend(q, k, v, kernel=self.kernel)), "attended")
        return x + project_out(attended, gelu(hidden))

    def largest_logits(self, x: jax.Array) -> jax.Array:
        """Of its attention, given what the block is called with; float32 [B]."""
        y = self.norm(x)
        q, k = self.query(y), self.key(y)
        return largest_logits(*(q, k) if self.qk_norm is None else self.qk_norm(q, k))

    def _project_in(self, y):
        return self.query(y), self.key(y), self.value(y), self.mlp_in(y)

    def _project_out(self, attended, hidden):
        return self.attention_out(attended) + self.mlp_out(hidden)

    def _project_in_fused(self, y):
        layers = (self.query, self.key, self.value, self.mlp_in)
        kernels = [layer.kernel[...].astype(self.dtype) for layer in layers]
        width = kernels[0].shape[0]
        y = constrain(y, "batch", "tokens", "embed")
        joined = y @ jnp.concatenate([kernel.reshape(width, -1) for kernel in kernels], axis=1)
        ends = [kernel.size // width for kernel in kernels]
        splits = [sum(ends[: i + 1]) for i in range(len(ends) - 1)]
        outputs = []
        for layer, kernel, part in zip(layers, kernels, jnp.split(joined, splits, -1), strict=True):
            part = part.reshape(*y.shape[:-1], *kernel.shape[1:])
            outputs.append(layer.add_bias(part))
        return outputs

    def _project_out_fused(self, attended, hidden):
        attention_kernel = self.attention_out.kernel[...].astype(self.dtype)
        mlp_kernel = self.mlp_out.kernel[...].astype(self.dtype)
        attended = attended.reshape(*attended.shape[:-2], -1)
        joined = jnp.concatenate([attended, hidden], axis=-1)
        kernel = jnp.concatenate([attention_kernel.reshape(-1, mlp_kernel.shape[-1]), mlp_kernel])
        output = constrain(joined @ kernel, "batch", "tokens", "embed")
        return self.mlp_out.add_bias(output)

    def _project_in_async(self, y):
        layers = (self.query, self.key, self.value, self.mlp_in)
        products = row_parallel(y, [layer.kernel[...].astype(self.dtype) for layer in layers])
        return [layer.add_bias(part) for layer, part in zip(layers, products, strict=True)]

    def _project_out_async(self, attended, hidden):
        # The larger product first: it hides a transfer that the second one's sum waits for.
        layers = (self.mlp_out, self.attention_out)
        kernels = [layer.kernel[...].astype(self.dtype) for layer in layers]
        return self.mlp_out.add_bias(column_parallel([hidden, attended], kernels))


def configure(variant: str = "22B/14", **choices) -> ViT22BConfig:
    """The configuration of `variant`, such as "22B/14"; `choices` override any field.

    Raises:
      ValueError: for an unknown variant or choices that contradict each other.
    """
    return ViT22BConfig.of(variant, **choices)


# One object, so that networks of equal configs are equal.
_PARALLEL = functools.partial(VisionTransformer, block=ParallelBlock)


def build(config: ViT22BConfig) -> VisionNetwork:
    """The network of `config`; no memory is allocated."""
    return VisionNetwork(config, _PARALLEL if config.parallel else VisionTransformer)
