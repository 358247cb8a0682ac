"""Linear maps split over the mesh axis `tensor`, their transfers hidden behind their products.

The asynchronous parallel linear operations of ViT-22B (arXiv 2302.05442, §3). The k devices of a
group each hold 1/k of the features of every activation. A product then needs what the others
hold: instead of waiting for all of it, each device multiplies the part it has while the next part
is on its way around a ring.

- `row_parallel` passes the input around; each device computes its share of the output. One
  input moves (k − 1)·n/k values per token, however many weights share it.
- `column_parallel` passes sums of the output around; each device adds its product. One output
  moves (k − 1)·m/k values per token, however many products it sums.

The paper names them after its A in y = A·x, the transpose of the weight W in y = x·W here. Each is
the other's transpose, so the backward pass runs rings as well. It starts them from the operands
alone: nothing that travelled is kept for it.

The mesh is the ambient one (`distill.parallel.sharding_context` or `jax.set_mesh`). Where its axis
`tensor` is missing or has one device, both functions are ordinary products.

All mesh axes are manual here. With only `tensor` manual the compiler would sum every block of a
weight gradient over the batch as soon as its product is done, and whole; here each weight is
gathered over `fsdp` once per pass, and its gradient is reduced once.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from distill.parallel.ring import (
    RING,
    Directions,
    added,
    column_ring,
    column_ring_transposed,
    row_ring,
    row_ring_transposed,
)
from distill.parallel.rules import BATCH_AXES

WEIGHT = "fsdp"


def row_parallel(
    x: jax.Array, weights: Sequence[jax.Array], *, directions: Directions = 2
) -> list[jax.Array]:
    """x·W for every W of `weights`, while x travels once around the ring (arXiv 2302.05442, §3).

    Args:
      x: [B, ..., n], features over `tensor`, batch over `data` and `fsdp`.
      weights: [n, m, ...] each, m over `tensor` and n over `fsdp` (where it divides n); the
        trailing axes are whole, such as head_dim after heads.
      directions: 2 sends half of the features each way around the ring, 1 all of them one way.

    Returns:
      [B, ..., m, ...] for each weight, m over `tensor`, in the operands' common dtype.

    Raises:
      ValueError: for shapes that do not fit each other or cannot be divided over the mesh.
    """
    _check_directions(directions)
    for w in weights:
        if x.ndim < 2 or w.ndim < 2 or w.shape[0] != x.shape[-1]:
            raise ValueError(
                f"row_parallel multiplies x [B, ..., n] by weights [n, m, ...]; got x of shape "
                f"{x.shape} and a weight of shape {w.shape}"
            )
    mesh = _ring_mesh()
    if mesh is None:
        return [jnp.tensordot(x, w, 1) for w in weights]
    _check_batch(mesh, x)
    _check_divides(mesh, "the features of x", x.shape[-1])
    for w in weights:
        _check_divides(mesh, f"axis 1 of a weight of shape {w.shape}", w.shape[1])
    dtype = jnp.result_type(x, *weights)
    return list(_row(directions, x.astype(dtype), tuple(w.astype(dtype) for w in weights)))


def column_parallel(
    xs: Sequence[jax.Array], weights: Sequence[jax.Array], *, directions: Directions = 2
) -> jax.Array:
    """The sum of all x·W, which travels once around the ring (arXiv 2302.05442, §3).

    A device adds its products to the sum in float32 and sends it on in the output's dtype.

    Args:
      xs: [B, ..., n, ...] each, n over `tensor`, batch over `data` and `fsdp`.
      weights: [n, ..., m], one for each x; n over `tensor` and m over `fsdp` (where it divides m).
        All axes but the last are summed over, such as heads and head_dim.
      directions: 2 sends half of the features each way around the ring, 1 all of them one way.

    Returns:
      [B, ..., m], m over `tensor`, in the operands' common dtype.

    Raises:
      ValueError: for shapes that do not fit each other or cannot be divided over the mesh.
    """
    _check_directions(directions)
    if not weights or len(xs) != len(weights):
        raise ValueError(
            f"column_parallel takes one weight for each x; got {len(xs)} and {len(weights)}"
        )
    outputs = set()
    for x, w in zip(xs, weights, strict=True):
        summed = w.ndim - 1
        if summed < 1 or x.ndim <= summed or x.shape[-summed:] != w.shape[:-1]:
            raise ValueError(
                f"column_parallel multiplies x [B, ..., n, ...] by a weight [n, ..., m]; got "
                f"shapes {x.shape} and {w.shape}"
            )
        outputs.add((*x.shape[:-summed], w.shape[-1]))
    if len(outputs) > 1:
        raise ValueError(
            f"column_parallel sums products of one shape; these have {sorted(outputs)}"
        )
    mesh = _ring_mesh()
    if mesh is None:
        return added(jnp.tensordot(x, w, w.ndim - 1) for x, w in zip(xs, weights, strict=True))
    _check_batch(mesh, xs[0])
    for w in weights:
        _check_divides(mesh, f"axis 0 of a weight of shape {w.shape}", w.shape[0])
    _check_divides(mesh, "the features of the output", weights[0].shape[-1])
    dtype = jnp.result_type(*xs, *weights)
    return _column(
        directions, tuple(x.astype(dtype) for x in xs), tuple(w.astype(dtype) for w in weights)
    )


# Weights and rings on the whole mesh ---------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _row(directions, x, weights):
    specs = _activation(x), _row_weights(weights)
    outputs = tuple(_activation(x, w.ndim - 2) for w in weights)

    def row(x, weights):
        return row_ring(directions, x, _gather(weights, axis=0, specs=specs[1]))

    return jax.shard_map(row, in_specs=specs, out_specs=outputs)(x, weights)


def _row_forward(directions, x, weights):
    return _row(directions, x, weights), (x, weights)


def _row_backward(directions, operands, dys):
    x, weights = operands
    specs = _activation(x), _row_weights(weights)

    def backward(x, weights, dys):
        whole = _gather(weights, axis=0, specs=specs[1])
        dx, dws = row_ring_transposed(directions, x, whole, dys)
        return dx, _scatter(dws, axis=0, specs=specs[1])

    in_specs = (*specs, tuple(_activation(x, w.ndim - 2) for w in weights))
    return jax.shard_map(backward, in_specs=in_specs, out_specs=specs)(x, weights, dys)


_row.defvjp(_row_forward, _row_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _column(directions, xs, weights):
    specs = _column_inputs(xs, weights), _column_weights(weights)

    def column(xs, weights):
        return column_ring(directions, xs, _gather(weights, axis=-1, specs=specs[1]))

    output = _activation(xs[0], 1 - (weights[0].ndim - 1))
    return jax.shard_map(column, in_specs=specs, out_specs=output)(xs, weights)


def _column_forward(directions, xs, weights):
    return _column(directions, xs, weights), (xs, weights)


def _column_backward(directions, operands, dy):
    xs, weights = operands
    specs = _column_inputs(xs, weights), _column_weights(weights)

    def backward(xs, weights, dy):
        whole = _gather(weights, axis=-1, specs=specs[1])
        dxs, dws = column_ring_transposed(directions, xs, whole, dy)
        return dxs, _scatter(dws, axis=-1, specs=specs[1])

    in_specs = (*specs, _activation(dy))
    return jax.shard_map(backward, in_specs=in_specs, out_specs=specs)(xs, weights, dy)


_column.defvjp(_column_forward, _column_backward)


# Layouts ---------------------------------------------------------------------------------------


def _ring_mesh():
    mesh = jax.sharding.get_abstract_mesh()
    return mesh if mesh.shape.get(RING, 1) > 1 else None


def _batch_axes() -> tuple[str, ...]:
    mesh = jax.sharding.get_abstract_mesh()
    return tuple(name for name in BATCH_AXES if name in mesh.axis_names)


def _weight_axis(size: int) -> str | None:
    parts = jax.sharding.get_abstract_mesh().shape.get(WEIGHT, 1)
    return WEIGHT if parts > 1 and size % parts == 0 else None


def _features(ndim: int, axis: int) -> PartitionSpec:
    """Of an activation: batch over its axes, the features of `axis` over the ring."""
    spec = [_batch_axes(), *[None] * (ndim - 1)]
    spec[axis] = RING
    return PartitionSpec(*spec)


def _activation(x, more: int = 0):
    return _features(x.ndim + more, x.ndim - 1 + min(more, 0))


def _row_weights(weights):
    return tuple(
        PartitionSpec(_weight_axis(w.shape[0]), RING, *[None] * (w.ndim - 2)) for w in weights
    )


def _column_weights(weights):
    return tuple(
        PartitionSpec(RING, *[None] * (w.ndim - 2), _weight_axis(w.shape[-1])) for w in weights
    )


def _column_inputs(xs, weights):
    return tuple(_features(x.ndim, x.ndim - (w.ndim - 1)) for x, w in zip(xs, weights, strict=True))


def _gather(weights, *, axis: int, specs):
    return [
        w if spec[axis] is None else lax.all_gather(w, WEIGHT, axis=axis % w.ndim, tiled=True)
        for w, spec in zip(weights, specs, strict=True)
    ]


def _scatter(dws, *, axis: int, specs):
    """Sums weight gradients over the batch, leaving each device its part.

    XLA for TPU makes a reduce-scatter of axis 0, but an all-reduce and a slice of the last axis,
    which is the one that `column_parallel` shards.
    """
    reduced = []
    for dw, spec in zip(dws, specs, strict=True):
        axes = _batch_axes()
        if spec[axis] is not None:
            dw = lax.psum_scatter(dw, WEIGHT, scatter_dimension=axis % dw.ndim, tiled=True)
            axes = tuple(name for name in axes if name != WEIGHT)
        reduced.append(lax.psum(dw, axes) if axes else dw)
    return tuple(reduced)


def _check_directions(directions):
    if directions not in (1, 2):
        raise ValueError(f"directions must be 1 or 2, not {directions}")


def _check_batch(mesh, x):
    parts = 1
    for name in _batch_axes():
        parts *= mesh.shape[name]
    if x.shape[0] % parts:
        raise ValueError(
            f"a batch of {x.shape[0]} (of x of shape {x.shape}) cannot be divided over "
            f"{parts} devices (data × fsdp); use a multiple of {parts}, or a smaller mesh"
        )


def _check_divides(mesh, what, size):
    k = mesh.shape[RING]
    if size % k:
        raise ValueError(
            f"{what} is {size}, which {k} devices (mesh axis tensor) cannot share evenly; use a "
            f"multiple of {k}, or a tensor axis that divides {size}"
        )
