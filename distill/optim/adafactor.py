"""The Adafactor variant of "Scaling Vision Transformers" (arXiv 2106.04560, §3.4)."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

MIN_FACTORED_SIZE = 32


class FactoredState(NamedTuple):
    """Second moments; a factored parameter has `row` and `column`, any other has `full`."""

    count: Any
    """Updates done, int32 scalar."""
    row: Any
    column: Any
    full: Any


def factored_dims(shape: tuple[int, ...], axes: tuple | None = None) -> tuple[int, int] | None:
    """The two dimensions whose statistics are kept apart: (second largest, largest), or None.

    The axis `layers`, over which a scanned model stacks its blocks, never takes part: a stack of
    layers is the same optimiser as the layers one by one.
    """
    dims = [d for d in range(len(shape)) if axes is None or axes[d] != "layers"]
    if len(dims) < 2:
        return None
    second, largest = sorted(dims, key=lambda d: shape[d])[-2:]
    return (second, largest) if shape[second] >= MIN_FACTORED_SIZE else None


def scale_by_factored_rms(
    axes: Any = None,
    *,
    clip_norm: float | None = None,
    decay_exponent: float = 0.8,
    decay_cap: float = 0.999,
    epsilon: float = 1e-30,
) -> optax.GradientTransformation:
    """Divides gradients by the root of a factored moving average of their squares.

    v ← β2·v + (1 − β2)·(g² + ε) with β2_t = min(0.999, 1 − (t + 1)^−0.8), t from 0. A parameter
    whose second largest dimension has at least 32 entries keeps the means of v over its two
    largest dimensions instead of v. There is no update clipping, no relative step and no scaling
    by the parameter's norm.

    Args:
      axes: a tree like the parameters with each one's logical axes; None if nothing is stacked.
      clip_norm: global norm that gradients are clipped to before, as `optax.clip_by_global_norm`
        does; None does not clip.
      decay_exponent: 0.8 above.
      decay_cap: 0.999 above.
      epsilon: ε above.
    """

    def axes_of(params):
        leaves, treedef = jax.tree.flatten(params)
        if axes is None:
            return [None] * len(leaves)
        return treedef.flatten_up_to(axes)

    def init(params):
        leaves, treedef = jax.tree.flatten(params)
        moments = [_init_moments(p, a) for p, a in zip(leaves, axes_of(params), strict=True)]
        row, column, full = (treedef.unflatten(m) for m in zip(*moments, strict=True))
        return FactoredState(jnp.zeros((), jnp.int32), row, column, full)

    def update(updates, state, params=None):
        del params
        step = state.count.astype(jnp.float32) + 1.0
        decay = jnp.minimum(decay_cap, 1.0 - step**-decay_exponent)
        leaves, treedef = jax.tree.flatten(updates)
        scale = jnp.float32(1.0)
        if clip_norm is not None:
            norm = optax.tree.norm(updates)
            scale = jnp.where(norm < clip_norm, 1.0, clip_norm / norm)
        moments = zip(*(treedef.flatten_up_to(m) for m in state[1:]), strict=True)
        results = [
            _update_one(g, scale, m, a, decay, epsilon)
            for g, m, a in zip(leaves, moments, axes_of(updates), strict=True)
        ]
        scaled, row, column, full = (treedef.unflatten(r) for r in zip(*results, strict=True))
        return scaled, FactoredState(optax.safe_increment(state.count), row, column, full)

    return optax.GradientTransformation(init, update)


def factored_axes(params: Any, axes: Any) -> FactoredState:
    """The logical axes of each moment, so that it can be cut as its parameter is."""

    def one(parameter, names):
        dims = factored_dims(parameter.shape, names)
        if dims is None:
            return (None,), (None,), names
        second, largest = dims
        return _drop(names, largest), _drop(names, second), (None,)

    leaves, treedef = jax.tree.flatten(params)
    moments = [one(p, a) for p, a in zip(leaves, treedef.flatten_up_to(axes), strict=True)]
    return FactoredState((), *(treedef.unflatten(m) for m in zip(*moments, strict=True)))


def _unused() -> jax.Array:
    return jnp.zeros((1,), jnp.float32)


def _init_moments(parameter, axes):
    dims = factored_dims(parameter.shape, axes)
    if dims is None:
        return _unused(), _unused(), jnp.zeros(parameter.shape, jnp.float32)
    second, largest = dims
    row = jnp.zeros(_drop(parameter.shape, largest), jnp.float32)
    column = jnp.zeros(_drop(parameter.shape, second), jnp.float32)
    return row, column, _unused()


def _drop(shape, dim):
    return (*shape[:dim], *shape[dim + 1 :])


def _update_one(gradient, scale, moments, axes, decay, epsilon):
    """The update and the moments, of a gradient that is `scale` times what is given.

    Neither the clipped gradient nor its square is written as one expression that several results
    use: XLA for CPUs would keep it in memory, and pass over twice as many bytes.
    """
    row, column, full = moments
    gradient = gradient.astype(jnp.float32)
    dims = factored_dims(gradient.shape, axes)
    if dims is None:
        gradient = scale * gradient
        full = decay * full + (1.0 - decay) * (jnp.square(gradient) + epsilon)
        return gradient * jax.lax.rsqrt(full), row, column, full
    second, largest = dims
    # The same square twice, each in factors of its own that no finite norm takes out of range.
    by_row = scale * jnp.mean((scale * gradient) * gradient, axis=largest)
    by_column = jnp.mean(jnp.square(-scale * gradient), axis=second)
    row = decay * row + (1.0 - decay) * (by_row + epsilon)
    column = decay * column + (1.0 - decay) * (by_column + epsilon)
    # v ≈ row ⊗ column / mean(row); the mean runs over `second`, as it stands within `row`.
    second_in_row = second - (second > largest)
    mean = jnp.mean(row, axis=second_in_row, keepdims=True)
    row_factor = scale * jax.lax.rsqrt(row / mean)
    column_factor = jax.lax.rsqrt(column)
    scaled = (
        gradient * jnp.expand_dims(row_factor, largest) * jnp.expand_dims(column_factor, second)
    )
    return scaled, row, column, full


def state_bytes(state: Any) -> int:
    """Bytes an optimiser state takes, from arrays or `jax.ShapeDtypeStruct`s."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state))
