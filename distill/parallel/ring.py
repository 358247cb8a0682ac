"""What one device computes of a linear map whose transfers run around the ring of `tensor`.

To be called inside a `shard_map` in which `RING` is manual; see `distill.parallel.linear`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

RING = "tensor"

Directions = Literal[1, 2]


class _Part(NamedTuple):
    """A part of the features that travels on its own."""

    shift: int
    """+1 or −1: to which neighbour it goes."""
    start: int
    size: int


def _parts(size: int, directions: Directions, lanes: int = 1) -> list[_Part]:
    """Cuts a device's `size` features into equal parts, `lanes` for each direction."""
    shifts = (1, -1)[:directions] * lanes
    cuts = [size * i // len(shifts) for i in range(len(shifts) + 1)]
    parts = [_Part(s, a, b - a) for s, a, b in zip(shifts, cuts[:-1], cuts[1:], strict=True)]
    return [part for part in parts if part.size]


def _send(x: jax.Array, part: _Part) -> jax.Array:
    k = lax.axis_size(RING)
    return lax.ppermute(x, RING, [(i, (i + part.shift) % k) for i in range(k)])


def _arrivals(
    x: jax.Array, parts: list[_Part]
) -> Iterator[list[tuple[jax.Array, _Part, jax.Array]]]:
    """The parts of everyone's x as they pass: in each of k steps, (owner, part, features).

    What a step brings is sent on before it is yielded, so that the caller's products do not hold
    up the next transfer.
    """
    k, here = lax.axis_size(RING), lax.axis_index(RING)
    arriving = [lax.slice_in_dim(x, p.start, p.start + p.size, axis=-1) for p in parts]
    for step in range(k):
        arrived = arriving
        if step < k - 1:
            arriving = [_send(chunk, part) for chunk, part in zip(arrived, parts, strict=True)]
        yield [
            ((here - part.shift * step) % k, part, chunk)
            for chunk, part in zip(arrived, parts, strict=True)
        ]


def _sum_around(
    product: Callable[[jax.Array, _Part], jax.Array], parts: list[_Part], dtype: jnp.dtype
) -> jax.Array:
    """This device's features of the sum of everyone's `product(owner, part)`."""
    k, here = lax.axis_size(RING), lax.axis_index(RING)
    sums = [product((here + (k - 1) * p.shift) % k, p).astype(dtype) for p in parts]
    for left in reversed(range(k - 1)):
        arriving = [_send(total, part) for total, part in zip(sums, parts, strict=True)]
        sums = [
            (product((here + left * p.shift) % k, p) + total).astype(dtype)
            for total, p in zip(arriving, parts, strict=True)
        ]
    return jnp.concatenate(sums, axis=-1)


def row_ring(directions, x, weights):
    """This device's features of x·W for every W, whole along their first axis."""
    ys = [0] * len(weights)
    for arrived in _arrivals(x, _parts(x.shape[-1], directions)):
        for owner, part, chunk in arrived:
            ys = [
                (y + _dot(chunk, _cut(w, 0, owner, part), 1)).astype(x.dtype)
                for y, w in zip(ys, weights, strict=True)
            ]
    return tuple(ys)


def row_ring_transposed(directions, x, weights, dys):
    """The gradients of `row_ring` towards x and every W, not yet summed over the batch."""
    parts = _parts(x.shape[-1], directions)

    def product(owner, part):
        return added(
            _dot_transposed(dy, _cut(w, 0, owner, part), w.ndim - 1)
            for dy, w in zip(dys, weights, strict=True)
        )

    dws = [jnp.zeros(w.shape, w.dtype) for w in weights]
    for arrived in _arrivals(x, parts):
        for owner, part, chunk in arrived:
            dws = [
                _put(dw, 0, owner, part, _outer(chunk, dy, x.ndim - 1))
                for dw, dy in zip(dws, dys, strict=True)
            ]
    return _sum_around(product, parts, x.dtype), tuple(dws)


def column_ring(directions, xs, weights):
    """This device's features of the sum of all x·W, every W whole along its last axis."""

    def product(owner, part):
        return added(
            _dot(x, _cut(w, -1, owner, part), w.ndim - 1) for x, w in zip(xs, weights, strict=True)
        )

    # A sum that arrives is added where its product leaves the matrix unit, so that product waits
    # for it. With two lanes, one travels while the other's product is computed.
    size = weights[0].shape[-1] // lax.axis_size(RING)
    return _sum_around(product, _parts(size, directions, lanes=2), xs[0].dtype)


def column_ring_transposed(directions, xs, weights, dy):
    """The gradients of `column_ring` towards every x and W, not yet summed over the batch."""
    dxs = [0] * len(weights)
    dws = [jnp.zeros(w.shape, w.dtype) for w in weights]
    for arrived in _arrivals(dy, _parts(dy.shape[-1], directions)):
        for owner, part, chunk in arrived:
            dxs = [
                (dx + _dot_transposed(chunk, _cut(w, -1, owner, part), 1)).astype(dy.dtype)
                for dx, w in zip(dxs, weights, strict=True)
            ]
            dws = [
                _put(dw, -1, owner, part, _outer(x, chunk, dy.ndim - 1))
                for dw, x in zip(dws, xs, strict=True)
            ]
    return tuple(dxs), tuple(dws)


def _cut(w: jax.Array, axis: int, owner: jax.Array, part: _Part) -> jax.Array:
    block = w.shape[axis] // lax.axis_size(RING)
    return lax.dynamic_slice_in_dim(w, owner * block + part.start, part.size, axis)


def _put(w: jax.Array, axis: int, owner: jax.Array, part: _Part, values: jax.Array) -> jax.Array:
    block = w.shape[axis] // lax.axis_size(RING)
    values = values.astype(w.dtype)
    return lax.dynamic_update_slice_in_dim(w, values, owner * block + part.start, axis)


def added(products: Iterable[jax.Array]) -> Any:
    """The sum of one array or more."""
    return sum(products)


def _contract(x, y, x_axes, y_axes):
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    dimensions = ((tuple(x_axes), tuple(y_axes)), ((), ()))
    return lax.dot_general(x, y, dimensions, preferred_element_type=dtype)


def _dot(x, w, summed):
    """[..., *n]·[*n, ...] over `summed` axes."""
    return _contract(x, w, range(x.ndim - summed, x.ndim), range(summed))


def _dot_transposed(dy, w, summed):
    """[..., *m]·[..., *m]ᵀ over `summed` axes."""
    return _contract(dy, w, range(dy.ndim - summed, dy.ndim), range(w.ndim - summed, w.ndim))


def _outer(x, dy, tokens):
    """[*tokens, ...]ᵀ·[*tokens, ...] over the `tokens` leading axes."""
    return _contract(x, dy, range(tokens), range(tokens))
