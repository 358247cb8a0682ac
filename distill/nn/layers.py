"""Linear maps, normalisation and the MLP, each parameter with its logical axes.

Every parameter carries `axes`, one logical axis name (or None) per dimension, which
`distill.parallel` maps to the mesh and `distill.optim` reads to tell stacked layers apart.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from distill.nn import closed_form
from distill.parallel import constrain, current_platform

Initializer = jax.nn.initializers.Initializer

xavier_uniform = jax.nn.initializers.xavier_uniform()
zeros = jax.nn.initializers.zeros
mlp_bias = jax.nn.initializers.normal(stddev=1e-6)


def _gelu_tanh(x: jax.Array) -> jax.Array:
    if closed_form.is_used():
        return closed_form.gelu_tanh(x)
    if current_platform() == "tpu":
        return closed_form.short_gelu_tanh(x)
    return closed_form.plain_gelu_tanh(x)


Kept = Literal["query", "key", "value", "attended", "middle", "hidden"]
"""What of a block the backward pass can find kept: the projections' results, those of attention
before the projection out, the tokens between attention and MLP, and the MLP's projection in."""

Activation = Literal["gelu_tanh", "gelu", "quick_gelu", "silu"]
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu_tanh": _gelu_tanh,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "silu": jax.nn.silu,
}


class Linear(nnx.Module):
    """y = x·W + b from named input axes to named output axes.

    `Linear({"embed": 768}, {"heads": 12, "head_dim": 64})` maps [..., 768] to [..., 12, 64]
    with a kernel of shape [768, 12, 64] and a bias of shape [12, 64].
    Fans are taken over the flattened input and output axes, so that splitting an axis
    into heads does not change the initial distribution.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        *,
        use_bias: bool = True,
        kernel_init: Initializer = xavier_uniform,
        bias_init: Initializer = zeros,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        in_shape, out_shape = tuple(inputs.values()), tuple(outputs.values())
        flat = kernel_init(rngs.params(), (math.prod(in_shape), math.prod(out_shape)), jnp.float32)
        self.kernel = nnx.Param(flat.reshape(in_shape + out_shape), axes=(*inputs, *outputs))
        self.bias = (
            nnx.Param(bias_init(rngs.params(), out_shape, jnp.float32), axes=tuple(outputs))
            if use_bias
            else None
        )
        self.kernel_scale: nnx.Param | None = None
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, ..., *inputs] to [batch, ..., *outputs] in `dtype`."""
        # Both ends say where they live: left to choose, XLA's partitioner has got products wrong
        # whose kernel is cut over fsdp and whose result is to be cut over tensor.
        x = _constrain_last(x.astype(self.dtype), self.inputs)
        if self.kernel_scale is None:
            product = closed_form.where_used(closed_form.product, closed_form.plain_product)
            y = product(x, self.kernel[...].astype(self.dtype), len(self.inputs))
        else:
            kernel, scale = self.kernel[...], self.kernel_scale[...]
            y = int8_product(x, kernel, scale, len(self.inputs)).astype(self.dtype)
        return self.add_bias(_constrain_last(y, self.outputs))

    def quantise(self) -> None:
        """From now on, multiplies by int8 weights; see `distill.nn.int8`."""
        # Blocks that are stacked have an axis in front.
        stack = self.kernel.ndim - len(self.inputs) - len(self.outputs)
        summed = tuple(range(stack, stack + len(self.inputs)))
        kernel, scale = to_int8(self.kernel[...].astype(jnp.float32), summed)
        axes = self.kernel.axes
        self.kernel = nnx.Param(kernel, axes=axes)
        of_outputs = (*axes[:stack], *axes[stack + len(self.inputs) :])
        self.kernel_scale = nnx.data(nnx.Param(jnp.squeeze(scale, summed), axes=of_outputs))

    def add_bias(self, y: jax.Array) -> jax.Array:
        """y + b for a product [..., *outputs] computed elsewhere; y itself without a bias."""
        if self.bias is None:
            return y
        add = closed_form.where_used(closed_form.add_bias, closed_form.plain_add_bias)
        return add(y, self.bias[...].astype(self.dtype))


def to_int8(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Numbers −127 … 127 and the factor for each slice over `axes`, of size 1 along these.

    Args:
      x: float32.
      axes: that a factor is common to.
    """
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True)
    # Of zeros alone, any factor is right.
    scale = jnp.where(largest > 0, largest / 127, 1.0)
    return jnp.round(x / scale).astype(jnp.int8), scale


def int8_product(x: jax.Array, kernel: jax.Array, scale: jax.Array, contracted: int) -> jax.Array:
    """x·W in float32, for a W that is `kernel` times `scale`; see `distill.nn.int8`.

    Args:
      x: [..., *inputs], of any floating-point dtype.
      kernel: [*inputs, *outputs] int8.
      scale: [*outputs] float32.
      contracted: number of inputs.
    """
    axes = tuple(range(x.ndim - contracted, x.ndim))
    numbers, factors = to_int8(x.astype(jnp.float32), axes)
    y = jax.lax.dot_general(
        numbers,
        kernel,
        ((axes, tuple(range(contracted))), ((), ())),
        preferred_element_type=jnp.int32,
    )
    factors = factors.reshape(*x.shape[: axes[0]], *(1,) * scale.ndim)
    return y.astype(jnp.float32) * factors * scale


def _constrain_last(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """Keeps [batch, ..., *axes] where its axes belong."""
    between = (None,) * (x.ndim - 1 - len(axes))
    return constrain(x, "batch", *between, *axes)


class LayerNorm(nnx.Module):
    """Normalises the last axis in float32.

    `center=False, use_bias=False` is the scale-only RMS form of ViT-22B (arXiv 2302.05442, §2.1).
    """

    def __init__(
        self,
        axis: str,
        size: int,
        *,
        use_bias: bool = True,
        center: bool = True,
        epsilon: float = 1e-6,
        dtype: jnp.dtype = jnp.float32,
    ):
        self.scale = nnx.Param(jnp.ones((size,), jnp.float32), axes=(axis,))
        self.bias = nnx.Param(jnp.zeros((size,), jnp.float32), axes=(axis,)) if use_bias else None
        self.center = center
        self.epsilon = epsilon
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., size] to [..., size] in `dtype`."""
        bias = None if self.bias is None else self.bias[...]
        # On TPUs norms that are not centred, ViT-22B's, cost more this way (docs/scale.md).
        on_tpu = self.center and current_platform() == "tpu"
        written_out, plain = closed_form.layer_norm, closed_form.plain_layer_norm
        norm = closed_form.where_used(written_out, written_out if on_tpu else plain)
        return norm(x, self.scale[...], bias, self.center, self.epsilon).astype(self.dtype)


class Mlp(nnx.Module):
    """Linear, activation, Linear; biases drawn from N(0, 1e-6).

    A gated MLP multiplies the input projection by the activation of a second one, the gate: with
    "silu" that is SwiGLU (arXiv 2002.05202).
    """

    def __init__(
        self,
        width: int,
        mlp_dim: int,
        *,
        activation: Activation = "gelu_tanh",
        gated: bool = False,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        linear = functools.partial(Linear, bias_init=mlp_bias, dtype=dtype, rngs=rngs)
        self.input = linear({"embed": width}, {"mlp": mlp_dim})
        self.output = linear({"mlp": mlp_dim}, {"embed": width})
        self.gate = linear({"embed": width}, {"mlp": mlp_dim}) if gated else None
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, T, D] to [B, T, D]."""
        activate = ACTIVATIONS[self.activation]
        hidden = checkpoint_name(constrain(self.input(x), "batch", "tokens", "mlp"), "hidden")
        if self.gate is None:
            return self.output(activate(hidden))
        gate = constrain(self.gate(x), "batch", "tokens", "mlp")
        return self.output(activate(gate) * hidden)


class LayerScale(nnx.Module):
    """Multiplies each feature of a branch by a learned factor (arXiv 2103.17239)."""

    def __init__(self, width: int, *, dtype: jnp.dtype):
        self.scale = nnx.Param(jnp.full((width,), 1e-5, jnp.float32), axes=("embed",))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., D] to [..., D]."""
        return x * self.scale[...].astype(self.dtype)
