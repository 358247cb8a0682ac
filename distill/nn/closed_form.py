"""Operations whose gradients are written out, as compilers make less of the derived ones.

All but attention have the values of the plain form to the bit, attention to what rounding does;
tests hold the gradients of all to it. What is kept for the backward pass is what the operation was
given, and little beside it: of the derived forms XLA for CPUs keeps more, or computes it again in
the midst of other products.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from distill.parallel import current_device, current_platform

# Held here: the ONNX converter puts another function in the place of the one in `jax.nn`, which it
# then writes as an operation that older runtimes do not know.
plain_gelu_tanh = functools.partial(jax.nn.gelu, approximate=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def layer_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array | None, center: bool, epsilon: float
) -> jax.Array:
    """(x − mean)·rsqrt(variance + ε)·scale + bias over the last axis.

    Args:
      x: [..., D] of any float dtype; it is kept as it is, and computed with in float32 at least.
      scale: [D], float32 or float64.
      bias: [D]; None adds nothing.
      center: False takes no mean off, and squares' mean for the variance (RMS).
      epsilon: ε.

    Returns:
      [..., D] of the dtype that is computed in.
    """
    return _layer_norm(x, scale, bias, center, epsilon)[0]


def is_used() -> bool:
    """Whether what is traced is for one CPU.

    Several CPU devices stand for other machines, in tests, and have the plain forms.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return current_device().platform == "cpu" and (mesh.empty or mesh.size == 1)


def may_round() -> bool:
    """Whether what is traced is for one CPU or for TPUs, and may differ from the plain form.

    What is placed nowhere may be exported: it keeps the operations that converters know.
    """
    used = is_used() or current_platform() == "tpu"
    return used and not jax.sharding.get_abstract_mesh().empty


def where_used(written_out: Any, plain: Any) -> Any:
    """One or the other form of an operation, by what is traced."""
    return written_out if is_used() else plain


def plain_layer_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array | None, center: bool, epsilon: float
) -> jax.Array:
    """The same as `layer_norm`, its gradient left to JAX."""
    return _layer_norm(x, scale, bias, center, epsilon)[0]


def _layer_norm(x, scale, bias, center, epsilon):
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = jnp.mean(x, axis=-1, keepdims=True) if center else None
    centred = x if mean is None else x - mean
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(variance + epsilon)
    y = centred * inverse * scale
    return y if bias is None else y + bias, mean, inverse


def _layer_norm_forward(x, scale, bias, center, epsilon):
    y, mean, inverse = _layer_norm(x, scale, bias, center, epsilon)
    return y, (x, scale, bias, mean, inverse)


def _layer_norm_backward(center, epsilon, kept, gradient):
    del epsilon
    x, scale, bias, mean, inverse = kept
    wide = x.astype(inverse.dtype)
    # What the forward pass had, but for two signs that cancel: XLA would find the same expression
    # to be the same, and keep its values from there to here.
    normalised = (-wide if mean is None else mean - wide) * -inverse
    scaled = gradient * scale
    along = jnp.mean(scaled * normalised, axis=-1, keepdims=True)
    inner = scaled - normalised * along
    if center:
        inner = inner - jnp.mean(scaled, axis=-1, keepdims=True)
    return (
        (inner * inverse).astype(x.dtype),
        _over_rows(gradient * normalised),
        None if bias is None else _over_rows(gradient),
    )


def _over_rows(values: jax.Array) -> jax.Array:
    """Sums of [..., D] over all axes but the last: a product with ones, where that is faster."""
    if not is_used():
        return jnp.sum(values, axis=tuple(range(values.ndim - 1)))
    rows = values.reshape(-1, values.shape[-1])
    return (jnp.ones((1, len(rows)), rows.dtype) @ rows)[0]


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: jax.Array, kernel: jax.Array, contracted: int) -> jax.Array:
    """x·W, its gradients as products whose operands lie as XLA for CPUs multiplies them fastest.

    The derived gradient of W has both operands, or one of them in a copy of many megabytes, turned:
    what is turned here is the smaller of them, and where that is the result's, the result.

    Args:
      x: [..., *inputs].
      kernel: [*inputs, *outputs] of the same dtype.
      contracted: number of inputs.

    Returns:
      [..., *outputs] of that dtype.
    """
    return jnp.tensordot(x, kernel, contracted)


def plain_product(x: jax.Array, kernel: jax.Array, contracted: int) -> jax.Array:
    """The same, its gradients left to JAX."""
    return jnp.tensordot(x, kernel, contracted)


def _product_backward(contracted, kept, gradient):
    x, kernel = kept
    inputs = math.prod(kernel.shape[:contracted])
    weights = kernel.reshape(inputs, -1)
    rows, pulls = x.reshape(-1, inputs), gradient.reshape(-1, weights.shape[1])
    # Without barriers XLA takes turning to be part of the product.
    turned = jax.lax.optimization_barrier
    if inputs <= weights.shape[1]:
        of_kernel = turned(rows.T) @ pulls
    else:
        of_kernel = turned(turned(turned(pulls.T) @ rows).T)
    return (pulls @ weights.T).reshape(x.shape), of_kernel.reshape(kernel.shape)


product.defvjp(lambda x, kernel, n: (plain_product(x, kernel, n), (x, kernel)), _product_backward)


@jax.custom_vjp
def add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """y + b for y [..., *outputs] and b [*outputs] of the same dtype.

    The gradient of b is a product with ones, which XLA for CPUs computes faster than a sum.
    """
    return y + bias


def plain_add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
    """The same, its gradients left to JAX."""
    return y + bias


def _add_bias_backward(bias, gradient):
    return gradient, _over_rows(gradient.reshape(-1, bias.size)).reshape(bias.shape)


add_bias.defvjp(lambda y, bias: (y + bias, bias), _add_bias_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, causal: bool, heads_first: bool
) -> jax.Array:
    """softmax(q·kᵀ/√K)·v, its softmax in float32 at least, divided by its sums at the end.

    What is kept are exponentials and their sums: weights, that is one over the other, are nowhere
    in memory.

    Args:
      q: [B, T, H, K] of any float dtype.
      k: [B, S, H, K] of the same.
      v: [B, S, H, K] of the same.
      causal: token t attends to keys 0 … t alone.
      heads_first: multiply arrays of [B, H, T, K], as XLA for CPUs is slow at others; that for
        TPUs has layouts of its own, and makes worse ones of these.

    Returns:
      [B, T, H, K] in the dtype of q.
    """
    return _attention(q, k, v, causal, heads_first)[0]


def plain_attention(q: jax.Array, k: jax.Array, v: jax.Array, causal: bool) -> jax.Array:
    """The same as JAX has it, its gradient left to it; both differ by what rounding does."""
    return jax.nn.dot_product_attention(q, k, v, is_causal=causal)


def _axes(heads_first: bool) -> tuple[str, str]:
    """Of queries and of keys, as they are multiplied."""
    return ("bhtk", "bhsk") if heads_first else ("bthk", "bshk")


def _swap(heads_first: bool, *arrays: jax.Array) -> list[jax.Array]:
    """Tokens and heads exchanged, where they are to be."""
    return [x.swapaxes(1, 2) for x in arrays] if heads_first else list(arrays)


def _attention(q, k, v, causal, heads_first):
    wide = jnp.promote_types(q.dtype, jnp.float32)
    # Scaled here, where it is an array of T·K, not of T·S.
    q = (q.astype(wide) * q.shape[-1] ** -0.5).astype(q.dtype)
    q, k, v = _swap(heads_first, q, k, v)
    of_q, of_k = _axes(heads_first)
    logits = jnp.einsum(f"{of_q},{of_k}->bhts", q, k, preferred_element_type=wide)
    if causal:
        seen = jnp.tri(*logits.shape[-2:], dtype=bool)
        logits = jnp.where(seen, logits, -jnp.inf)
    exponentials = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    [sums] = _swap(not heads_first, jnp.sum(exponentials, axis=-1, keepdims=True))
    exponentials = exponentials.astype(v.dtype)
    out = jnp.einsum(f"bhts,{of_k}->{of_q}", exponentials, v, preferred_element_type=wide) / sums
    out = out.astype(q.dtype)
    return _swap(heads_first, out)[0], (q, k, v, exponentials, sums, out)


def _attention_backward(causal, heads_first, kept, gradient):
    del causal
    q, k, v, exponentials, sums, out = kept
    wide = sums.dtype
    of_q, of_k = _axes(heads_first)
    product = functools.partial(jnp.einsum, preferred_element_type=wide)
    gradient = _swap(heads_first, gradient)[0].astype(wide) / sums
    along = jnp.sum(gradient * out.astype(wide), axis=-1, keepdims=True)
    gradient = gradient.astype(v.dtype)
    of_weights = product(f"{of_q},{of_k}->bhts", gradient, v) - _swap(not heads_first, along)[0]
    of_logits = (exponentials.astype(wide) * of_weights).astype(k.dtype)
    gradients = (
        product(f"bhts,{of_k}->{of_q}", of_logits, k) * k.shape[-1] ** -0.5,
        product(f"bhts,{of_q}->{of_k}", of_logits, q),
        product(f"bhts,{of_q}->{of_k}", exponentials, gradient),
    )
    return tuple(_swap(heads_first, *(x.astype(q.dtype) for x in gradients)))


attention.defvjp(_attention, _attention_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def forward_attention(q: jax.Array, k: jax.Array, v: jax.Array, causal: bool) -> jax.Array:
    """As `attention`, where no gradient is taken; else the plain form."""
    return _attention(q, k, v, causal, False)[0]


forward_attention.defvjp(
    lambda q, k, v, causal: jax.vjp(lambda q, k, v: plain_attention(q, k, v, causal), q, k, v),
    lambda causal, pull, gradient: pull(gradient),
)


@jax.custom_vjp
def gelu_tanh(x: jax.Array) -> jax.Array:
    """GELU in its tanh form, x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2; x alone is kept."""
    return plain_gelu_tanh(x)


def _gelu_tanh_backward(x, gradient):
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    # (1 + tanh(u))/2 = σ(2u), written so because XLA would keep the forward pass's tanh(u) for it.
    cubic = np.sqrt(8 / np.pi) * (wide + 0.044715 * wide**3)
    slope = np.sqrt(8 / np.pi) * (1 + 3 * 0.044715 * wide**2)
    share = jax.nn.sigmoid(cubic)
    factor = share + wide * share * (1 - share) * slope
    return ((gradient.astype(wide.dtype) * factor).astype(x.dtype),)


gelu_tanh.defvjp(lambda x: (gelu_tanh(x), x), _gelu_tanh_backward)


@jax.custom_vjp
def short_gelu_tanh(x: jax.Array) -> jax.Array:
    """The same, its gradient in as few operations as there are.

    TPUs compute the gradient as the product with the MLP's second kernel leaves the matrix unit,
    and the vector unit holds that up: two thirds of the operations are two thirds of the wait.
    """
    return plain_gelu_tanh(x)


def _short_gelu_tanh_backward(x, gradient):
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    slope, cubic = math.sqrt(2 / math.pi), 0.044715
    square = wide * wide
    bent = jnp.tanh(wide * (slope + slope * cubic * square))
    inner = (0.5 - 0.5 * bent * bent) * (slope + 3 * slope * cubic * square)
    derivative = 0.5 + 0.5 * bent + wide * inner
    return ((derivative * gradient.astype(wide.dtype)).astype(x.dtype),)


short_gelu_tanh.defvjp(lambda x: (plain_gelu_tanh(x), x), _short_gelu_tanh_backward)
