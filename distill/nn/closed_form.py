"""Operations whose gradients are written out, as compilers make more of the derived ones.

Each has the values of the plain form to the bit, and tests hold its gradients to it. What is
kept for the backward pass is what the operation was given, and a number or two for each row: of the
derived forms XLA for CPUs keeps more, or computes it again in the midst of other products.
"""

import functools
import math

import jax
import jax.numpy as jnp

from distill.parallel import current_device

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

    Programs of several CPU devices, which stand for other machines in tests, stay as they were:
    with these in them, XLA was seen to start transfers in another order on each device, and to wait
    for ever.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return current_device().platform == "cpu" and (mesh.empty or mesh.size == 1)


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


@jax.custom_vjp
def gelu_tanh(x: jax.Array) -> jax.Array:
    """GELU in its tanh form, x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2; x alone is kept."""
    return plain_gelu_tanh(x)


def _gelu_tanh_backward(x, gradient):
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    _, pull = jax.vjp(plain_gelu_tanh, wide)
    return (pull(gradient.astype(wide.dtype))[0].astype(x.dtype),)


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
