"""Operations whose gradients are written out, as compilers make more of the derived ones.

Each has the values of the plain form to the bit, or nearly; tests hold gradients to it. What is
kept for the backward pass is what the operation was given, and a number or two for each row: of the
derived forms XLA for CPUs keeps more, or computes it again in the midst of other products.
"""

import functools

import jax
import jax.numpy as jnp

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
    normalised = (wide if mean is None else wide - mean) * inverse
    rows = tuple(range(x.ndim - 1))
    scaled = gradient * scale
    along = jnp.mean(scaled * normalised, axis=-1, keepdims=True)
    inner = scaled - normalised * along
    if center:
        inner = inner - jnp.mean(scaled, axis=-1, keepdims=True)
    return (
        (inner * inverse).astype(x.dtype),
        jnp.sum(gradient * normalised, axis=rows),
        None if bias is None else jnp.sum(gradient, axis=rows),
    )


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def attention(q: jax.Array, k: jax.Array, v: jax.Array, causal: bool) -> jax.Array:
    """softmax(q·kᵀ/√K)·v, its softmax in float32 at least, divided by its sums at the end.

    What is kept are exponentials and their sums: weights, that is one over the other, are nowhere
    in memory.

    Args:
      q: [B, T, H, K] of any float dtype.
      k: [B, S, H, K] of the same.
      v: [B, S, H, K] of the same.
      causal: token t attends to keys 0 … t alone.

    Returns:
      [B, T, H, K] in the dtype of q.
    """
    return _attention(q, k, v, causal)[0]


def _attention(q, k, v, causal):
    wide = jnp.promote_types(q.dtype, jnp.float32)
    scaled = (q.astype(wide) * q.shape[-1] ** -0.5).astype(q.dtype)
    logits = jnp.einsum("bthk,bshk->bhts", scaled, k, preferred_element_type=wide)
    if causal:
        seen = jnp.tri(q.shape[1], k.shape[1], dtype=bool)
        logits = jnp.where(seen, logits, -jnp.inf)
    largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    exponentials = jnp.exp(logits - largest)
    sums = jnp.sum(exponentials, axis=-1)
    weights = exponentials.astype(v.dtype)
    out = jnp.einsum("bhts,bshk->bthk", weights, v, preferred_element_type=wide)
    out = out / sums.swapaxes(1, 2)[..., None]
    return out.astype(q.dtype), scaled, weights, sums


def _attention_forward(q, k, v, causal):
    out, scaled, weights, sums = _attention(q, k, v, causal)
    return out, (scaled, k, v, weights, sums, out)


def _attention_backward(causal, kept, gradient):
    del causal
    scaled, k, v, weights, sums, out = kept
    wide = sums.dtype
    gradient = gradient.astype(wide) / sums.swapaxes(1, 2)[..., None]
    along = jnp.sum(gradient * out.astype(wide), axis=-1).swapaxes(1, 2)[..., None]
    gradient = gradient.astype(v.dtype)
    of_weights = jnp.einsum("bthk,bshk->bhts", gradient, v, preferred_element_type=wide)
    of_logits = (weights.astype(wide) * (of_weights - along)).astype(k.dtype)
    of_v = jnp.einsum("bhts,bthk->bshk", weights, gradient, preferred_element_type=wide)
    of_k = jnp.einsum("bhts,bthk->bshk", of_logits, scaled, preferred_element_type=wide)
    of_q = jnp.einsum("bhts,bshk->bthk", of_logits, k, preferred_element_type=wide)
    of_q = of_q * k.shape[-1] ** -0.5
    return of_q.astype(scaled.dtype), of_k.astype(k.dtype), of_v.astype(v.dtype)


attention.defvjp(_attention_forward, _attention_backward)


@jax.custom_vjp
def gelu_tanh(x: jax.Array) -> jax.Array:
    """GELU in its tanh form, x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2; x alone is kept."""
    return plain_gelu_tanh(x)


def _gelu_tanh_backward(x, gradient):
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    _, pull = jax.vjp(plain_gelu_tanh, wide)
    return (pull(gradient.astype(wide.dtype))[0].astype(x.dtype),)


gelu_tanh.defvjp(lambda x: (gelu_tanh(x), x), _gelu_tanh_backward)
